// Changes of services: on a screen of their own, and on that of one service.
import { bars, chip, clock, empty, html, more, named, nothing, number, plural, search, serviceLink, status, wide, word, ms } from './parts.js';
import { repeat } from './vendor/lit-html/directives/repeat.js';

const KINDS = [['', 'All'], ['added', 'Added'], ['removed', 'Removed'], ['synced', 'State'], ['repaired', 'Repaired'], ['refused', 'Refused'], ['gone', 'Deleted']];

export const said = line => {
  switch (line.kind) {
    case 'added': return html`<span class="plus">+ ${line.address || number(line.count)}</span> ${line.pod} ${line.text}`;
    case 'removed': return html`<span class="minus">− ${line.address || number(line.count)}</span> ${line.pod} ${line.text}`;
    case 'synced': return line.text === 'InRegistry' ? status('ok', word(line.text)) : html`${status('warn', 'State')} ${line.text}`;
    case 'repaired': return html`${status('warn', 'Repaired')} ${line.text}`;
    case 'refused': return status('bad', line.text);
    default: return html`${status('none', 'Deleted')} ${line.text}`;
  }
};
const total = parts => parts ? ms(parts.apiMs + parts.waitMs + parts.zkMs) : '';

export const timeline = lines => lines.length ? html`<ol class="tl">${repeat(lines, line => line.number, line => html`<li><time>${clock(line.at)}</time><div>${said(line)}${line.parts ? html`<div class="soft">${bars(line.parts)}</div>` : nothing}</div><span class="ms">${total(line.parts)}</span></li>`)}</ol>`
  : html`<p class="pad soft">None since this process began.</p>`;

let paused = null;
export const url = query => {
  const asked = new URLSearchParams();
  for (const key of ['service', 'kind', 'limit']) if (query.get(key)) asked.set(key, query.get(key));
  return `api/changes?${asked}`;
};
export const leave = () => { paused = null; };
export const keys = { ' ': draw => { paused = paused ? null : 'next'; draw(); } };

export const view = ({ data, query, ask, draw }) => {
  if (paused === 'next') paused = data;
  const shown = paused ?? data, service = query.get('service') || '', kind = query.get('kind') || '';
  const newer = paused ? data.changes.filter(line => !shown.changes.length || line.number > shown.changes[0].number).length : 0;
  return html`<div class="titleline"><h1 tabindex="-1">Changes</h1><span class="soft">newest first; the last 2,000 since this process began. Older ones: Events and metrics</span></div>
  <div class="tools">${search('Exact name of a service', service, event => ask({ service: event.target.value.trim() }, true))}
    <div class="chips" role="group" aria-label="Kind">${KINDS.map(([value, text]) => chip(text, null, kind === value, () => ask({ kind: value })))}</div>
    <button type="button" class="btn" aria-pressed=${paused ? 'true' : 'false'} @click=${() => keys[' '](draw)}>${paused ? `Go on${newer ? ` (${number(newer)} more)` : ''}` : 'Pause'}</button>
    <span class="count" role="status">${plural(shown.total, 'line')}</span></div>
  <div class="card">${shown.changes.length ? html`${wide('Changes', html`<table><caption class="sr">Changes, the newest first</caption><thead><tr><th scope="col">Time</th><th scope="col">Service</th><th scope="col">What</th><th scope="col" class="opt">Node</th><th scope="col" class="num">Lag</th></tr></thead><tbody>
    ${repeat(shown.changes, line => line.number, line => html`<tr><td class="mono soft nowrap">${clock(line.at)}</td><td><a class="svc mono" href=${serviceLink(line.service)}>${named(line.service)}</a></td>
      <td class="what">${said(line)}${line.parts ? html`<div class="soft small">${bars(line.parts)}</div>` : nothing}</td><td class="opt soft">${line.node}</td><td class="num nowrap">${total(line.parts)}</td></tr>`)}</tbody></table>`)}
    <div class="foot">${more(shown.changes.length, shown, ask)}</div>`
    : service || kind ? empty('Nothing matches', html`<button type="button" class="btn" @click=${() => ask({ service: '', kind: '' })}>Clear</button>`)
    : empty('Nothing has changed since this process began', html`Delete a pod, and it shows here within a second.`)}</div>`;
};
