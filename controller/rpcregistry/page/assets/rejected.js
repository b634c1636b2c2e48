// Pods whose annotations say something wrong.
import { command, empty, html, number, plural, status, wide } from './parts.js';

const PAGE = 200;
export const url = () => 'api/rejected';
export const view = ({ state, data, query, ask }) => {
  const q = (query.get('q') || '').toLowerCase(), most = Number(query.get('limit') || PAGE);
  const rows = data.rejected.filter(one => !q || [one.pod, one.namespace, one.node, one.what].some(text => text.toLowerCase().includes(q)));
  return html`<div class="titleline"><h1 tabindex="-1">Rejected pods</h1><span class="soft" role="status">${plural(data.rejected.length, 'mistake')}</span></div>${state.noticed}
  <div class="card">${rows.length ? html`${wide('Rejected pods', html`<table><caption class="sr">Mistakes in the annotations of pods</caption><thead><tr><th scope="col">Pod</th><th scope="col">Namespace</th><th scope="col" class="opt">Node</th><th scope="col">Where</th><th scope="col">What is wrong</th></tr></thead>
    <tbody>${rows.slice(0, most).map(one => html`<tr class=${one.hint ? '' : 'warn'}><td class="mono">${one.pod}</td><td class="soft">${one.namespace}</td><td class="opt soft">${one.node}</td><td class="mono words">${one.where}</td><td class="words">${status(one.hint ? 'info' : 'warn', `${one.hint ? 'Perhaps: ' : ''}${one.what}`)}</td></tr>`)}</tbody></table>`)}
    <div class="foot"><span>1–${number(Math.min(most, rows.length))} of ${number(rows.length)}</span>${rows.length > most ? html`<span class="r"><button type="button" class="btn" @click=${() => ask({ limit: most + PAGE })}>Show 200 more</button></span>` : ''}
      <span class="r">${command(`kubectl -n ${rows[0].namespace} describe pod ${rows[0].pod}`)}</span></div>`
    : empty(`All ${plural(data.pods, 'pod')} say what we understand`, html`<code>rpcregistry render FILE</code> shows beforehand what a manifest publishes.`)}</div>`;
};
