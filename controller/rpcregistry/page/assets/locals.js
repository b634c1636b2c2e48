// LocalServices: the list, and one of them by node, as a grid and as a table.
import { chip, command, empty, html, nothing, number, pill, plural, status, wide, word } from './parts.js';
import { repeat } from './vendor/lit-html/directives/repeat.js';

const href = row => `localservice?namespace=${encodeURIComponent(row.namespace)}&name=${encodeURIComponent(row.name)}`;
const synced = row => row.synced ? ['ok', 'In sync'] : row.synced == null ? ['none', word(row.reason)] : [row.reason === 'Held' ? 'hold' : 'warn', word(row.reason)];

export const list = {
  url: () => 'api/localservices',
  view: ({ state, data }) => html`<div class="titleline"><h1 tabindex="-1">Local services</h1><span class="soft" role="status">${plural(data.total, 'LocalService')}</span></div>${state.noticed}
  <div class="card">${data.total ? wide('Local services', html`<table><caption class="sr">LocalServices</caption><thead><tr><th scope="col">Name</th><th scope="col">Namespace</th><th scope="col" class="num">Nodes</th><th scope="col" class="num">Ready</th><th scope="col">Condition</th><th scope="col" class="opt">Nodes without a Ready pod</th></tr></thead>
    <tbody>${repeat(data.localServices, row => `${row.namespace}/${row.name}`, row => html`<tr class=${row.synced === false ? 'warn' : ''} data-href=${href(row)}><td><a class="svc mono" href=${href(row)}>${row.name}</a>${row.message ? html`<div class="why" title=${row.message}>${row.message}</div>` : nothing}</td><td class="soft">${row.namespace}</td><td class="num">${number(row.nodes)}</td><td class="num">${number(row.ready)}</td><td>${status(...synced(row))}</td><td class="opt soft words">${row.lacking.join(' ')}${row.nodes - row.ready > row.lacking.length ? ' …' : ''}</td></tr>`)}</tbody></table>`)
    : empty('There is no LocalService', html`A LocalService gives each node a Service of its own, for callers that choose the node.<br>${command('kubectl apply -f examples/localservice.yaml')}`)}</div>`,
};

const WORDS = { ok: 'Ready', none: 'no Ready pod', hold: 'held', bad: 'problem' };
const move = event => {
  const cells = [...event.currentTarget.querySelectorAll('button')], at = cells.indexOf(event.target);
  const across = Math.max(1, cells.findIndex((cell, i) => i && cell.offsetTop !== cells[0].offsetTop));
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + across, ArrowUp: at - across, Home: 0, End: cells.length - 1 }[event.key];
  if (at < 0 || to === undefined || !cells[to]) return;
  event.preventDefault();
  cells[at].tabIndex = -1;
  cells[to].tabIndex = 0;
  cells[to].focus();
};
let picked = '';
const say = node => `${node.node} · ${node.service} · ${node.clusterIp || 'no address'} · ${node.why}`;

export const one = {
  url: query => `api/localservices/${encodeURIComponent(query.get('namespace') ?? '')}/${encodeURIComponent(query.get('name') ?? '')}`,
  view: ({ state, data, query, ask, draw }) => {
    const row = data.row, looked = data.nodes.filter(node => node.level !== 'ok'), all = query.get('show') === 'all' || !looked.length;
    const rows = (all ? data.nodes : looked).slice(0, 1000), first = data.nodes.find(node => node.node === picked) ?? data.nodes[0];
    const pick = node => { picked = node.node; draw(); };
    return html`<nav class="crumbs" aria-label="Breadcrumb"><a href="local">Local services</a> / ${row.namespace}</nav>
    <div class="title"><h1 tabindex="-1">${row.name}</h1>${pill(...synced(row))}</div>${row.message ? html`<p class="message">${row.message}</p>` : nothing}${state.noticed}
    <dl class="facts"><div><dt>Nodes</dt><dd>${number(row.nodes)}</dd></div><div><dt>With a Ready pod</dt><dd>${number(row.ready)} <small>of ${number(row.nodes)}</small></dd></div>
      <div><dt>Selects</dt><dd><code>${Object.entries(data.selector).map(([key, value]) => `${key}=${value}`).join(' ')}</code></dd></div><div><dt>Called as</dt><dd><code>${row.name}-NODE:${data.ports[0] ?? ''}</code></dd></div></dl>
    <section class="card gap"><div class="head"><h2>Nodes</h2><span class="soft">one square a node</span></div><div class="grid" role="group" aria-label="Nodes, by arrow keys" @keydown=${move}>${repeat(data.nodes, node => node.node, node => html`<button type="button" class=${node.level} aria-label=${`${node.node}: ${WORDS[node.level]}`} title=${say(node)} tabindex=${node === first ? 0 : -1} @focus=${() => pick(node)} @click=${() => pick(node)}>${node.level === 'bad' ? '!' : ''}</button>`)}</div>
      <p class="pad soft" aria-live="polite">${first ? say(first) : ''}</p>
      <div class="key"><span class="ok"><i></i>Ready pod</span><span class="none"><i></i>no Ready pod</span><span class="hold"><i></i>held: the node is missing from the list</span><span class="bad"><i></i>problem</span></div></section>
    <section class="card"><div class="head"><h2>${all ? 'All nodes' : 'Need a look'}</h2><span class="r chips" role="group" aria-label="Which nodes">${chip('Need a look', looked.length, !all, () => ask({ show: '' }))}${chip('All', data.nodes.length, all, () => ask({ show: 'all' }))}</span></div>
      ${wide('Nodes', html`<table><caption class="sr">Nodes</caption><thead><tr><th scope="col">Node</th><th scope="col">Service</th><th scope="col">Cluster IP</th><th scope="col">Ready pods</th><th scope="col">State</th></tr></thead><tbody>${repeat(rows, node => node.node, node => html`<tr><td class="mono">${node.node}</td><td class="mono">${node.service}</td><td class="mono soft">${node.clusterIp || '–'}</td><td class="mono">${node.endpoints.join(' ') || '–'}</td><td class="words">${status(node.level, node.why)}</td></tr>`)}</tbody></table>`)}
      ${data.truncated ? html`<p class="pad soft">The status lists only the first nodes and addresses.</p>` : nothing}</section>`;
  },
};
