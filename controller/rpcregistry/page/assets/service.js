// One service: endpoints, pods that are none, what clients read, changes, commands.
import { age, ago, bytes, chip, command, empty, html, look, more, ms, nothing, number, pill, plural, repaired, search, spark, status, unix, wide, word } from './parts.js';
import { timeline } from './changes.js';
import { repeat } from './vendor/lit-html/directives/repeat.js';

export const url = query => {
  const asked = new URLSearchParams();
  for (const key of ['q', 'state', 'namespace', 'limit']) if (query.get(key)) asked.set(key, query.get(key));
  return `api/services/${encodeURIComponent(query.get('name') ?? '')}?${asked}`;
};

const words = metadata => Object.entries(metadata).map(([key, value]) => `${key}=${value}`).join(' ');
const EXTRA = [['group', 'Group'], ['protocol', 'Protocol'], ['metadata', 'Metadata']];

const endpoint = (one, extra) => html`<tr><td class="mono">${one.pod}</td><td class="soft">${one.node}</td><td class="mono">${one.address}</td><td class="mono">${one.version}</td><td class="num">${one.weight ?? ''}</td>
  ${extra.map(([key]) => html`<td class="soft words">${key === 'metadata' ? words(one.metadata) : one[key]}</td>`)}
  <td>${status(one.state, one.published)}</td><td class="num soft nowrap">${age(unix(one.since))}</td></tr>`;

const byNode = list => {
  const nodes = new Map();
  for (const one of list) nodes.set(one.node, [...(nodes.get(one.node) ?? []), one]);
  return [...nodes].sort();
};

const endpoints = (data, query, ask) => {
  const list = data.endpoints, state = query.get('state') || '', q = query.get('q') || '', grouped = query.get('by') === 'node';
  const extra = EXTRA.filter(([key]) => list.some(one => key === 'metadata' ? Object.keys(one.metadata).length : one[key]));
  const head = html`<thead><tr><th scope="col">Pod</th><th scope="col">Node</th><th scope="col">Address</th><th scope="col">Version</th><th scope="col" class="num">Weight</th>${extra.map(([, text]) => html`<th scope="col">${text}</th>`)}<th scope="col">Published</th><th scope="col" class="num">Runs for</th></tr></thead>`;
  return html`<section class="card"><div class="head"><h2>Endpoints</h2><span class="soft">${number(data.row.total)} on ${plural(data.nodes, 'node')}</span>
    <span class="r chips" role="group" aria-label="Which endpoints">${chip('All', data.row.total, !state && !grouped, () => ask({ state: '', by: '' }))}${chip('Not published', data.unpublished, state === 'unpublished', () => ask({ state: 'unpublished', by: '' }))}${chip('By node', null, grouped, () => ask({ by: grouped ? '' : 'node', state: '' }))}</span></div>
    <div class="pad">${search('Pod, node or address', q, event => ask({ q: event.target.value }, true))}</div>
    ${list.length ? html`${wide('Endpoints', html`<table><caption class="sr">Endpoints</caption>${head}${grouped
      ? byNode(list).map(([node, some]) => html`<tbody><tr class="group"><th scope="rowgroup" colspan=${7 + extra.length}>${node || 'no node'} · ${number(some.length)}</th></tr>${some.map(one => endpoint(one, extra))}</tbody>`)
      : html`<tbody>${repeat(list, one => `${one.namespace}/${one.pod}/${one.address}`, one => endpoint(one, extra))}</tbody>`}</table>`)}
    <div class="foot">${more(list.length, data, ask)}</div>`
    : empty(q || state ? 'Nothing matches' : 'It has no endpoint', q || state ? html`<button type="button" class="btn" @click=${() => ask({ q: '', state: '' })}>Clear</button>` : html`No pod that names it has an address.`)}</section>`;
};

const outside = list => list.length ? html`<section class="card"><div class="head"><h2>Pods that name it, and are no endpoint or say something wrong</h2><span class="soft">${number(list.length)}</span></div>
  ${wide('Pods that are no endpoints', html`<table><caption class="sr">Pods that are no endpoints</caption><thead><tr><th scope="col">Pod</th><th scope="col">Node</th><th scope="col">Why</th></tr></thead><tbody>${list.map(one => html`<tr><td class="mono">${one.pod}</td><td class="soft">${one.node}</td><td class="words">${status(one.mistake ? 'warn' : 'none', one.why)}</td></tr>`)}</tbody></table>`)}</section>` : nothing;

// Lines of two texts beside each other: those that only one has are marked.
const lines = (text, other, kind) => {
  const theirs = new Set(other.split('\n'));
  return text.split('\n').map(line => html`<div class=${other && !theirs.has(line) ? kind : ''}>${line || ' '}</div>`);
};
const read = (one, row) => html`<section class="card"><div class="head wrap"><h2>What clients read</h2><code class="soft">${one.layout}</code><code class="soft path">${one.path}</code>
    <span class="soft r">${!one.known ? 'not known' : one.exists ? html`version ${number(one.version)} · ${bytes(one.bytes)}${one.readAt ? html` · read ${ago(one.readAt)}` : nothing}` : 'no znode'}</span></div>
  ${one.differences.length ? html`<p class="pad">${status('warn', plural(one.differences.length, 'difference'))} ${one.differences.slice(0, 5).join('; ')}</p>` : nothing}
  ${one.children.length ? wide('Znodes', html`<table><caption class="sr">Znodes of ${one.layout}</caption><thead><tr><th scope="col">Znode</th><th scope="col">Holds</th><th scope="col">Whose</th></tr></thead><tbody>${one.children.map(child => html`<tr><td class="mono words">${child.name}</td><td class="mono words">${child.data}</td><td>${child.ours ? 'ours' : html`<span class="late">another's</span>`}</td></tr>`)}</tbody></table>${one.moreChildren ? html`<p class="pad soft">and ${number(one.moreChildren)} more</p>` : nothing}`)
    : one.shouldBe ? html`<div class="diff"><div tabindex="0" role="group" aria-label="What it holds"><h3>It holds</h3>${lines(one.is, one.shouldBe, 'gone')}</div><div tabindex="0" role="group" aria-label="What it should hold"><h3>It should hold</h3>${lines(one.shouldBe, one.is, 'new')}</div></div>`
    : one.is ? html`<div class="diff one"><div tabindex="0" role="group" aria-label="What it holds">${lines(one.is, '', '')}${one.cut ? html`<div class="soft">… cut</div>` : nothing}</div></div>`
    : html`<p class="pad soft">${!one.known ? 'The last write was not answered, so it holds what it did before or what it should. It is read as soon as ZooKeeper answers.' : one.exists ? 'It is empty.' : row.ready ? 'Nothing of it is written here.' : 'Nobody is Ready, so nothing is published.'}</p>`}</section>`;

export const view = ({ state, data, query, ask }) => {
  const row = data.row, layouts = data.registry?.length ?? 0;
  const differ = data.registry?.some(one => one.differences.length);
  const known = data.registry && row.found != null;
  return html`<nav class="crumbs" aria-label="Breadcrumb"><a href="./">Services</a> / ${row.namespaces.join(', ')}</nav>
  <div class="title"><h1 tabindex="-1">${row.name}</h1>${pill(look(row), word(row.reason))}${repaired(row)}${row.ready || !row.total ? nothing : pill('bad', 'Nobody is Ready')}</div>
  ${row.message ? html`<p class="message">${row.message}</p>` : nothing}
  ${state.noticed}
  <dl class="facts"><div><dt>Ready</dt><dd>${number(row.ready)} of ${number(row.total)}${row.held ? html` <small class="heldn">+${number(row.held)} held</small>` : nothing}</dd></div>
    <div><dt>In the registry</dt><dd>${known ? html`${number(row.found)} <small>in ${plural(layouts, 'layout')}, ${differ ? 'not as they should be' : 'all as they should be'}</small>` : html`– <small>${state.registry ? (state.role !== 'leader' ? 'the leader tells' : data.registry ? 'not known until ZooKeeper answers' : 'not compared yet') : 'another process writes it'}</small>`}</dd></div>
    <div><dt>Pod changed → znode written</dt><dd>${row.lagMs == null ? html`– <small>no change since this process began</small>` : html`${ms(row.lagMs)} <small>slowest of the last ${number(row.lags.length)}: ${ms(Math.max(...row.lags))}</small> ${spark(row.lags)}`}</dd></div>
    <div><dt>${row.objects.length === 1 ? 'RpcService' : `RpcServices (${number(row.objects.length)})`}</dt><dd title=${row.objects.join(', ')}>${row.objects[0]} <small>${row.declared ? 'declared' : 'generated from pods'}</small></dd></div></dl>
  <div class="two"><div class="stack">${endpoints(data, query, ask)}${outside(data.notEndpoints)}${(data.registry ?? []).map(one => read(one, row))}</div>
  <div class="stack"><section class="card"><div class="head"><h2>Changes</h2><span class="soft r">last 50, newest first</span></div>${timeline(data.changes)}</section>
  <section class="card"><div class="head"><h2>Look closer</h2></div><div class="commands">${data.commands.map(command)}</div></section></div></div>`;
};
