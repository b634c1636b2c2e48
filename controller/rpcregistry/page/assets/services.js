// The list of services, below the journey of a change.
import { ago, chip, command, empty, html, look, meter, more, ms, named, nothing, number, plural, repaired, search, serviceLink, spark, status, unix, wide, word } from './parts.js';
import { repeat } from './vendor/lit-html/directives/repeat.js';

const hop = found => html`<div class="hop ${found.level}"><div class="name">${found.name}</div><div class="big">${found.big}${found.note ? html` <small>${found.note}</small>` : nothing}</div>
  <div class="sub">${found.sub}${found.since ? html` ${ago(found.since)}` : nothing}</div></div>`;
const link = (found, name) => html`<div class="link ${found.level}"><span class="sr">${name}: </span>${found.big ? html`<b>${found.big}</b>` : nothing}<span>${found.since ? ago(found.since) : found.sub}</span></div>`;
export const journey = state => html`<div class="journey" role="group" aria-label="The journey of a change">${hop(state.hops[0])}${link(state.links[0], 'From pods to RpcServices')}${hop(state.hops[1])}${link(state.links[1], 'From RpcServices to ZooKeeper')}${hop(state.hops[2])}</div>`;

const STATES = [['', 'All', 'all'], ['look', 'Need a look', 'look'], ['held', 'Held', 'held'], ['nobody', 'Nobody Ready', 'nobody'], ['partly', 'Partly Ready', 'partly'], ['declared', 'Declared', 'declared']];
const COLUMNS = [['problems', 'Service · problems first', ''], ['namespace', 'Namespace', 'ns'], ['ready', 'Ready', ''], ['found', 'Clients find', 'num'], ['', 'Registry', ''], ['changed', 'Last change', 'opt'], ['lag', 'Lag', 'num opt'], ['', 'Last 20', 'opt'], ['', 'Layouts', 'opt']];

export const url = query => {
  const asked = new URLSearchParams();
  for (const key of ['q', 'state', 'namespace', 'layout', 'sort', 'limit']) if (query.get(key)) asked.set(key, query.get(key));
  return `api/services?${asked}`;
};

// Rows keep their places while somebody reads them further down: a change must not move what is under the pointer.
let order = { key: '', names: [] }, moved = 0;
const inPlace = (rows, key) => {
  const fresh = key !== order.key || scrollY < 80 || order.names.length === 0;
  moved = 0;
  if (!fresh) {
    const known = new Map(order.names.map((name, i) => [name, i]));
    const before = rows.map(row => row.name).join();
    rows = rows.slice().sort((a, b) => (known.get(a.name) ?? 1e9) - (known.get(b.name) ?? 1e9));
    if (rows.map(row => row.name).join() !== before) moved = rows.filter(row => !known.has(row.name)).length || 1;
  }
  order = { key, names: rows.map(row => row.name) };
  return rows;
};

const found = row => {
  if (row.found == null) return html`<span class="soft">–</span>`;
  const due = row.ready + (row.held ?? 0);
  if (row.found === 0 && due > 0) return html`<span class="minus">0 of ${number(due)}</span>`;
  return row.total && !row.found ? html`<span class="minus">0</span>` : number(row.found);
};
const row = one => html`<tr class=${one.level} data-href=${serviceLink(one.name)}>
  <td><a class="svc mono" href=${serviceLink(one.name)}>${named(one.name)}</a>${one.message ? html`<div class="why" title=${one.message}>${one.message}</div>` : nothing}</td>
  <td class="soft ns" title=${one.namespaces.join(', ')}>${one.namespaces.length === 1 ? one.namespaces[0] : plural(one.namespaces.length, 'namespace')}</td>
  <td><span class="ready">${meter(one.ready, one.total, one.held)}<span>${number(one.ready)}/${number(one.total)}</span>${one.held ? html` <span class="heldn">+${number(one.held)} held</span>` : nothing}</span></td>
  <td class="num">${found(one)}</td><td>${status(look(one), word(one.reason))}${repaired(one)}</td>
  <td class="opt soft nowrap">${ago(one.changedAt ?? unix(one.since))}${one.added ? html` <span class="mono plus">+${number(one.added)}</span>` : nothing}${one.removed ? html` <span class="mono minus">−${number(one.removed)}</span>` : nothing}</td>
  <td class="num opt nowrap">${one.lagMs == null ? html`<span class="soft">–</span>` : html`<span class=${one.lagMs >= 1000 ? 'late' : ''}>${ms(one.lagMs)}</span>`}</td><td class="opt">${spark(one.lags)}</td>
  <td class="opt soft nowrap"><code>${one.layouts.join(' ')}</code></td></tr>`;

const heading = ([sort, text, kind], query, ask) => {
  if (!sort) return html`<th scope="col" class=${kind}>${text}</th>`;
  const sorted = (query.get('sort') || 'problems') === sort;
  return html`<th scope="col" class=${kind} aria-sort=${sorted ? 'other' : nothing}><button type="button" @click=${() => ask({ sort: sort === 'problems' ? '' : sort })}>${text}</button></th>`;
};

export const first = (state) => state.filled ? empty('No pod says yet what it serves', html`${plural(state.counts.pods, 'pod')} ${state.counts.pods === 1 ? 'is' : 'are'} watched. Annotate one, and it shows up here within a second:<br><pre>metadata:
  labels: {rpc-service: "true"}
  annotations:
    rpc-service: '[{"serviceName": "echo", "port": 20880}]'</pre><br>${command('kubectl apply -f examples/test-rpc-service.yaml')}`)
  : empty('Reading the cluster', html`${state.sources.map(source => html`<div>${source.resource}: ${number(source.count)} read so far${source.filled ? ', all of them' : ' …'}${source.unknown ? html` (${source.unknown})` : nothing}</div>`)}`);

export const view = ({ state, data, query, ask }) => {
  const asked = data.services, all = state.counts.services, chosen = query.get('state') || '', q = query.get('q') || '';
  const filtered = q || chosen || query.get('namespace') || query.get('layout');
  const rows = inPlace(asked, url(query).replace(/&?limit=\d+/, ''));
  const select = (label, key, values, text) => html`<select class="sel" aria-label=${label} @change=${event => ask({ [key]: event.target.value })}><option value="" ?selected=${!query.get(key)}>${text}</option>${values.map(value => html`<option value=${value} ?selected=${query.get(key) === value}>${value}</option>`)}</select>`;
  const look = state.counts.needLook;
  return html`<div class="titleline"><h1 tabindex="-1">Services</h1><span class="soft">${!all ? 'nothing to publish yet' : look ? `${number(look)} of ${number(all)} need${look === 1 ? 's' : ''} a look` : 'all is well'}</span></div>
  ${journey(state)}
  ${state.noticed}
  ${all || filtered ? html`<div class="tools">${search('Service, pod, node or address', q, event => ask({ q: event.target.value }, true))}
    <div class="chips" role="group" aria-label="State">${STATES.map(([value, text, key]) => chip(text, data.counts[key], chosen === value, () => ask({ state: value })))}</div>
    ${select('Namespace', 'namespace', data.namespaces, 'All namespaces')}${data.layouts.length > 1 || query.get('layout') ? select('Layout', 'layout', data.layouts, 'All layouts') : nothing}
    <span class="count" role="status">${plural(data.total, 'service')}</span></div>` : nothing}
  ${moved ? html`<button type="button" class="btn moved" @click=${() => { order.key = ''; scrollTo(0, 0); ask({}); }}>The order has changed · show</button>` : nothing}
  <div class="card">${rows.length ? html`${wide('Services', html`<table class="services"><caption class="sr">Services, those that need a look first</caption><thead><tr>${COLUMNS.map(column => heading(column, query, ask))}</tr></thead>
    <tbody>${repeat(rows, one => one.name, row)}</tbody></table>`)}
    <div class="foot">${more(rows.length, data, ask)}<span class="soft keys">keys: <kbd>j</kbd> <kbd>k</kbd> move · <kbd>Enter</kbd> open · <kbd>/</kbd> filter · <kbd>?</kbd> all</span></div>`
    : filtered && all ? empty(q ? html`No service, pod, node or address contains “${q}”` : 'Nothing matches', html`<button type="button" class="btn" @click=${() => ask({ q: '', state: '', namespace: '', layout: '' })}>Clear</button>`)
    : first(state)}</div>`;
};
