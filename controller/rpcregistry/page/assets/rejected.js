// Pods whose annotations say something wrong.
import { command, empty, html, nothing, number, plural, status, wide } from './parts.js';

const PAGE = 200;
const denied = list => list.length ? html`<section class="card gap"><div class="head wrap"><h2>May not register what they declare</h2><span class="soft">asked for again when a pod changes, and every --resync-period</span></div>
  ${wide('ServiceAccounts that may not register', html`<table><caption class="sr">ServiceAccounts that may not register</caption><thead><tr><th scope="col">ServiceAccount</th><th scope="col">RpcService</th><th scope="col">Pods</th><th scope="col">What gives it the right</th></tr></thead><tbody>${list.map(one => html`<tr class="warn"><td class="mono words">${one.namespace}/${one.serviceAccount}</td><td class="mono words">${one.rpcService}</td><td class="words">${one.pods.slice(0, 5).join(' ')}${one.pods.length > 5 ? ` and ${number(one.pods.length - 5)} more` : ''}</td><td><div class="commands">${one.commands.map(command)}</div></td></tr>`)}</tbody></table>`)}</section>` : nothing;
export const url = () => 'api/rejected';
export const view = ({ state, data, query, ask }) => {
  const q = (query.get('q') || '').toLowerCase(), most = Number(query.get('limit') || PAGE);
  const rows = data.rejected.filter(one => !q || [one.pod, one.namespace, one.node, one.what].some(text => text.toLowerCase().includes(q)));
  return html`<div class="titleline"><h1 tabindex="-1">Rejected pods</h1><span class="soft" role="status">${plural(data.rejected.filter(one => !one.hint).length, 'mistake')}, ${plural(data.rejected.filter(one => one.hint).length, 'likely one')}</span></div>${state.noticed}${denied(data.denied)}
  <div class="card">${rows.length ? html`${wide('Rejected pods', html`<table><caption class="sr">Mistakes in the annotations of pods</caption><thead><tr><th scope="col">Pod</th><th scope="col">Namespace</th><th scope="col" class="opt">Node</th><th scope="col">Where</th><th scope="col">What is wrong</th></tr></thead>
    <tbody>${rows.slice(0, most).map(one => html`<tr class=${one.hint ? '' : 'warn'}><td class="mono">${one.pod}</td><td class="soft">${one.namespace}</td><td class="opt soft">${one.node}</td><td class="mono words">${one.where}</td><td class="words">${status(one.hint ? 'info' : 'warn', `${one.hint ? 'Perhaps: ' : ''}${one.what}`)}</td></tr>`)}</tbody></table>`)}
    <div class="foot"><span>1–${number(Math.min(most, rows.length))} of ${number(rows.length)}</span>${rows.length > most ? html`<span class="r"><button type="button" class="btn" @click=${() => ask({ limit: most + PAGE })}>Show 200 more</button></span>` : ''}
      <span class="r">${command(`kubectl -n ${rows[0].namespace} describe pod ${rows[0].pod}`)}</span></div>`
    : empty(`All ${plural(data.pods, 'pod')} say what we understand`, html`<code>rpcregistry render FILE</code> shows beforehand what a manifest publishes.`)}</div>`;
};
