// What several screens draw: icons, times, latencies, commands to copy.  All text is bound as text.
import { html, nothing } from './vendor/lit-html/lit-html.js';

export { html, nothing };

const PATHS = {
  ok: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.2"/><path d="m5.3 8.2 1.9 1.9 3.6-4"/></svg>`,
  warn: html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M8 2.2 14.3 13.4H1.7Z"/><path d="M8 6.4v3.2M8 11.4v.1"/></svg>`,
  bad: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.2"/><path d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4"/></svg>`,
  hold: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.2"/><path d="M6.4 5.7v4.6M9.6 5.7v4.6"/></svg>`,
  none: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.2"/><path d="M5.4 8h5.2"/></svg>`,
  info: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.2"/><path d="M8 7.2v3.6M8 5v.1"/></svg>`,
  search: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="7" cy="7" r="4.6"/><path d="m10.5 10.5 3.6 3.6"/></svg>`,
  light: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="2.8"/><path d="M8 1.6v1.6M8 12.8v1.6M1.6 8h1.6M12.8 8h1.6M3.5 3.5l1.1 1.1M11.4 11.4l1.1 1.1M3.5 12.5l1.1-1.1M11.4 4.6l1.1-1.1"/></svg>`,
  dark: html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8Z"/></svg>`,
  auto: html`<svg viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6.2"/><path d="M8 1.8a6.2 6.2 0 0 1 0 12.4Z" fill="currentColor"/></svg>`,
  logo: html`<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M2.5 4.5h4v7h-4zM9.5 2.5h4v4h-4zM9.5 9.5h4v4h-4zM6.5 8h1.4V4.5h1.6M7.9 8v3.5h1.6"/></svg>`,
};
export const icon = name => PATHS[name];

// The server's clock, which all times are of: its difference to this machine's, in seconds.
let skew = 0;
export const setClock = date => { if (date) skew = Date.parse(date) / 1000 - Date.now() / 1000; };
export const now = () => Date.now() / 1000 + skew;

export const number = value => value.toLocaleString('en-US');
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? '' : 's'}`;
export const unix = text => text ? Date.parse(text) / 1000 : null;

export const span = seconds => {
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]]) if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.max(0, Math.round(seconds))} s`;
};
export const clock = at => new Date(at * 1000).toLocaleTimeString('en-GB');
export const ago = at => at == null || Number.isNaN(at) ? '–' : html`<time datetime=${new Date(at * 1000).toISOString()} title=${new Date(at * 1000).toLocaleString('en-GB')}>${now() - at < 1.5 ? 'just now' : `${span(now() - at)} ago`}</time>`;
export const age = at => at == null || Number.isNaN(at) ? '–' : html`<time datetime=${new Date(at * 1000).toISOString()} title=${new Date(at * 1000).toLocaleString('en-GB')}>${span(now() - at)}</time>`;

export const ms = value => value == null ? '–' : value < 1 ? '<1 ms' : value < 1000 ? `${Math.round(value)} ms` : value < 9950 ? `${(value / 1000).toFixed(1)} s` : `${number(Math.round(value / 1000))} s`;
export const bytes = value => value < 1000 ? `${value} B` : value < 1e6 ? `${(value / 1000).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`;

export const spark = values => {
  if (!values || values.length < 2) return nothing;
  const top = Math.max(...values, 1), width = 64, height = 18, step = width / (values.length - 1);
  const d = 'M' + values.map((value, i) => `${(i * step).toFixed(1)} ${(height - 2 - value / top * (height - 5)).toFixed(1)}`).join('L');
  return html`<svg class="spark" width="64" height="18" role="img" aria-label=${`last ${values.length} changes, ${ms(Math.min(...values))} to ${ms(top)}`}><path d=${d}/></svg>`;
};

// How many are Ready, and how many of the rest are held.
export const meter = (ready, total, held) => {
  const width = 44, part = total ? ready / total * width : 0, kept = total ? held / total * width : 0;
  return html`<svg class="meter ${total && !ready && !held ? 'zero' : ready < total ? 'part' : ''}" width="44" height="5" aria-hidden="true"><rect class="all" width="44" height="5" rx="2.5"/>
    <rect class="ready" width=${part.toFixed(1)} height="5" rx="2.5"/><path class="held" d=${`M${part.toFixed(1)} 2.5h${kept.toFixed(1)}`}/></svg>`;
};

// Where the time of a change went: three parts of a bar, and in words.
export const bars = parts => {
  const all = [parts.apiMs, parts.waitMs, parts.zkMs], total = all.reduce((a, b) => a + b, 0) || 1;
  let x = 0;
  return html`<svg class="bars" width="84" height="6" aria-hidden="true">${all.map((value, i) => {
    const width = value / total * 84, at = x; x += width;
    return html`<svg x=${at.toFixed(1)}><rect class=${`b${i}`} width=${Math.max(0, width - 1).toFixed(1)} height="6"/></svg>`;
  })}</svg>${ms(parts.apiMs)} API · ${ms(parts.waitMs)} wait · ${ms(parts.zkMs)} ZooKeeper`;
};

const copy = async event => {
  const button = event.currentTarget, code = button.previousElementSibling;
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = 'Selected';
  }
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
};
export const command = text => html`<span class="cmd"><code>${text}</code><button type="button" @click=${copy} aria-label=${`Copy: ${text}`}>Copy</button></span>`;

const WORDS = {
  InRegistry: 'In sync', OwnedElsewhere: 'Owned elsewhere', MissingPort: 'Missing port', TooLarge: 'Too large', InvalidName: 'Invalid name',
  RegistryUnavailable: 'Not written', NotLookedAt: 'Not compared yet', Waiting: 'Waiting', Held: 'Held', Refused: 'Refused', Unreadable: 'Unreadable',
};
export const word = reason => WORDS[reason] ?? reason.replace(/([a-z])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);
export const look = row => ({ InRegistry: 'ok', Held: 'hold', Waiting: 'warn', NotLookedAt: 'none', RegistryUnavailable: 'warn', MissingPort: 'warn' })[row.reason] ?? 'bad';
export const status = (kind, text) => html`<span class="st ${kind}">${icon(kind)}<span>${text}</span></span>`;
// What others had changed, and was put back, for ten minutes.
export const repaired = row => row.repairedAt && now() - row.repairedAt < 600 ? html`<span class="pill warn">${icon('warn')}<span>Repaired ${ago(row.repairedAt)}</span></span>` : nothing;
export const pill = (kind, text) => html`<span class="pill ${kind}">${icon(kind)}${text}</span>`;

export const named = name => {
  const at = name.lastIndexOf('.') + 1;
  return html`<span class="pkg">${name.slice(0, at)}</span>${name.slice(at)}`;
};
export const serviceLink = name => `service?name=${encodeURIComponent(name)}`;

export const chip = (text, count, pressed, click) => html`<button type="button" class="chip" aria-pressed=${pressed ? 'true' : 'false'} @click=${click}>${text}${count == null ? nothing : html` <span>${number(count)}</span>`}</button>`;
export const search = (label, value, input) => html`<div class="search">${icon('search')}<input id="filter" type="search" aria-label=${label} placeholder=${label} .value=${value} @input=${input} autocomplete="off" spellcheck="false"><kbd aria-hidden="true">/</kbd></div>`;

export const notice = found => html`<section class="notice ${found.kind}" aria-label=${found.title}>${icon(found.kind)}<div><strong>${found.title}</strong><p>${found.text}</p>${found.command ? command(found.command) : nothing}</div>
  ${found.until ? html`<div class="clock">${found.until > now() ? `${span(found.until - now())} left` : 'looking again'}<div>then withdrawn, if confirmed</div></div>` : found.since ? html`<div class="clock">${span(now() - found.since)}</div>` : nothing}</section>`;

export const wide = (label, body) => html`<div class="scroll" tabindex="0" role="group" aria-label=${label}>${body}</div>`;
export const empty = (title, body) => html`<div class="empty"><h2>${title}</h2>${body}</div>`;

// Below a list: which rows are shown, and the next ones; one answer has 1,000 rows at most.
export const more = (shown, data, ask) => html`<span role="status">1–${number(shown)} of ${number(data.total)}</span>${data.next == null ? nothing
  : data.next >= 1000 ? html`<span class="r">Search to see others</span>` : html`<span class="r"><button type="button" class="btn" @click=${() => ask({ limit: data.next + 200 })}>Show 200 more</button></span>`}`;
