// The shell: which screen the address names, its data, the bar on top, keys.  A screen is a function of one answer.
import { render } from './vendor/lit-html/lit-html.js';
import { html, icon, notice, nothing, now, number, setClock, span } from './parts.js';
import * as services from './services.js';

const SCREENS = {
  '': { title: 'Services', load: async () => services },
  service: { title: 'Service', load: () => import('./service.js'), nav: '' },
  local: { title: 'Local services', load: async () => (await import('./locals.js')).list },
  localservice: { title: 'Local service', load: async () => (await import('./locals.js')).one, nav: 'local' },
  rejected: { title: 'Rejected pods', load: () => import('./rejected.js') },
  changes: { title: 'Changes', load: () => import('./changes.js') },
  controller: { title: 'Controller', load: () => import('./controller.js') },
};
const POLL = 5000, QUICK_POLL = 1000, GATHER = 1000;

const at = () => location.pathname.slice(location.pathname.lastIndexOf('/') + 1);
const query = () => new URLSearchParams(location.search);

let past = null, screen = null, name = null, state = null, data = null, missing = null, answered = 0, failed = '', helping = false;

// data

const read = async url => {
  const answer = await fetch(url, { cache: 'no-cache', headers: { Accept: 'application/json' } });
  if (answer.status === 404) {
    const missing = (await answer.json()).detail, name = query().get('name');
    // What became of a service that is gone: its last changes are still known.
    return { missing, last: url.startsWith('api/services/') && name ? (await read(`api/changes?limit=50&service=${encodeURIComponent(name)}`)).changes : [] };
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => null);
    throw new Error(problem?.detail ?? `HTTP ${answer.status}`);
  }
  if (url === 'api/state') setClock(answer.headers.get('date'));
  return answer.json();
};

let turn = 0;
const load = async () => {
  const mine = ++turn, wanted = SCREENS[at()] ? at() : '';
  try {
    const next = name === wanted && screen ? screen : await SCREENS[wanted].load();
    const url = next.url(query());
    const [whole, found] = await Promise.all([read('api/state'), url ? read(url) : null]);
    if (found?.last?.length) past ??= (await import('./changes.js')).timeline;
    if (mine !== turn) return;
    if (screen !== next) screen?.leave?.();
    [screen, name, state, failed, answered] = [next, wanted, whole, '', now()];
    missing = found?.missing ?? null;
    data = found;
  } catch (error) {
    if (mine !== turn) return;
    failed = error.message || 'no answer';
  }
  draw();
};

let timer = 0, last = 0, due = 0, broken = 0, leave = null;
const again = () => {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(async () => { last = Date.now(); await load(); again(); }, broken >= 2 ? QUICK_POLL : POLL);
};
const soon = () => {
  if (due) return;
  due = setTimeout(async () => { due = 0; last = Date.now(); await load(); again(); }, Math.max(0, last + GATHER - Date.now()));
};
// Browsers allow six connections to an origin.  So of all tabs that are seen one has the stream, and tells the others.
const tabs = new BroadcastChannel(new URL('.', location).pathname);
tabs.onmessage = soon;
const listen = left => new Promise(done => {
  const stream = new EventSource('api/stream');
  stream.addEventListener('changed', () => { tabs.postMessage('changed'); soon(); });
  stream.onopen = () => { broken = 0; };
  stream.onerror = () => { broken += 1; again(); };
  left.addEventListener('abort', () => { stream.close(); done(); });
});
const follow = () => {
  leave?.abort();
  if (document.hidden) return;
  leave = new AbortController();
  const { signal } = leave;
  // Without a secure context there are no locks: then each tab has a stream of its own.
  if (navigator.locks) navigator.locks.request(tabs.name, { signal }, () => listen(signal)).catch(() => {});
  else listen(signal);
};
document.addEventListener('visibilitychange', () => {
  follow();
  if (document.hidden) clearTimeout(timer); else soon();
});

// the address

const ask = (changes, typing = false) => {
  const wanted = query();
  if (!('limit' in changes)) wanted.delete('limit');
  for (const [key, value] of Object.entries(changes)) if (value) wanted.set(key, value); else wanted.delete(key);
  const text = wanted.toString(), url = `${at() || './'}${text ? `?${text}` : ''}`;
  history[typing ? 'replaceState' : 'pushState'](null, '', url);
  draw();
  load();
};
const go = async href => {
  history.pushState(null, '', href);
  await load();
  scrollTo(0, 0);
  document.querySelector('h1')?.focus({ preventScroll: true });
};
addEventListener('popstate', load);
document.addEventListener('click', event => {
  const link = event.target.closest?.('a[href]');
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const href = link.getAttribute('href');
  if (href.startsWith('#') || link.origin !== location.origin) return;
  event.preventDefault();
  go(href);
});

// light and dark

const THEMES = ['auto', 'light', 'dark'];
const stored = () => { try { return localStorage.getItem('rpcregistry-theme') ?? 'auto'; } catch { return 'auto'; } };
let theme = THEMES.includes(stored()) ? stored() : 'auto';
const dress = () => { if (theme === 'auto') delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = theme; };
const turnTheme = () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try { localStorage.setItem('rpcregistry-theme', theme); } catch { /* it lasts as long as the page */ }
  dress();
  draw();
};
dress();

// keys

const PLACES = { s: './', l: 'local', r: 'rejected', c: 'changes', o: 'controller' };
const KEYS = [['/', 'filter'], ['j, k', 'next, previous row'], ['Enter', 'open the row'], ['g s', 'Services'], ['g l', 'Local services'], ['g r', 'Rejected pods'], ['g c', 'Changes'], ['g o', 'Controller'], ['space', 'pause (on Changes)'], ['?', 'these keys'], ['Esc', 'leave']];
let going = false;
const step = by => {
  const rows = [...document.querySelectorAll('tr[data-href] a')], here = rows.indexOf(document.activeElement);
  rows[Math.max(0, Math.min(rows.length - 1, here < 0 ? 0 : here + by))]?.focus();
};
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.('input, select, textarea');
  if (event.key === 'Escape') { helping = false; event.target.blur?.(); draw(); return; }
  if (typing) return;
  if (going) {
    going = false;
    if (PLACES[event.key]) { event.preventDefault(); go(PLACES[event.key]); }
    return;
  }
  const keys = { '/': () => document.querySelector('#filter')?.focus(), j: () => step(1), k: () => step(-1), g: () => { going = true; }, '?': () => { helping = !helping; draw(); } };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); return; }
  if (event.key === ' ' && screen?.keys?.[' '] && !event.target.matches?.('button, a, [tabindex="0"]')) { event.preventDefault(); screen.keys[' '](draw); }
});

// drawing

const LINKS = [['', './', 'Services', 'services'], ['local', 'local', 'Local services', 'locals'], ['rejected', 'rejected', 'Rejected pods', 'rejected'], ['changes', 'changes', 'Changes', null], ['controller', 'controller', 'Controller', null]];
const badge = key => {
  const count = key && state ? state.counts[key] : null;
  return count == null || (key === 'rejected' && !count) ? nothing : html` <span class="badge ${key === 'rejected' ? 'warn' : ''}">${number(count)}</span>`;
};
const bar = () => {
  const here = SCREENS[at()]?.nav ?? at(), stale = failed && answered;
  const live = !answered && failed ? failed : stale ? `Last answer ${span(now() - answered)} ago` : 'Live';
  return html`<a class="skip" href="#main">Skip to content</a><header class="top"><a class="brand" href="./">${icon('logo')}rpcregistry ${state ? html`<small title=${state.cluster}>${state.cluster.slice(0, 12)}</small>` : nothing}</a>
  <nav class="main" aria-label="Main">${LINKS.map(([key, href, text, count]) => html`<a href=${href} aria-current=${key === here ? 'page' : nothing}>${text}${badge(count)}</a>`)}</nav>
  <div class="right"><span class="live ${failed ? 'off' : ''}" role="status"><i></i>${live}</span>${state ? html`<span class="mono who">${state.identity.replace(/_[0-9a-f]{8}$/, '')} · ${state.role === 'leader' ? 'leader' : 'waiting to lead'}</span>` : nothing}
  <button type="button" class="btn ghost" aria-label=${`Colours: ${theme}`} title=${`Colours: ${theme}`} @click=${turnTheme}>${icon(theme)}</button></div></header>`;
};
const skeleton = () => html`<div class="skeleton" aria-busy="true"><h1 tabindex="-1">${SCREENS[at()]?.title ?? 'Services'}</h1><p class="sr">Loading</p><div class="journey"><div class="hop"></div><div class="link"></div><div class="hop"></div><div class="link"></div><div class="hop"></div></div>${Array.from({ length: 8 }, () => html`<div class="bone"></div>`)}</div>`;
const help = () => helping ? html`<section class="help" aria-label="Keys"><h2>Keys</h2><dl>${KEYS.map(([key, what]) => html`<dt><kbd>${key}</kbd></dt><dd>${what}</dd>`)}</dl><button type="button" class="btn" @click=${() => { helping = false; draw(); }}>Close</button></section>` : nothing;

const body = () => {
  const wanted = SCREENS[at()] ? at() : '';
  if (!state || name !== wanted) return failed ? html`<h1 tabindex="-1">No answer</h1><p class="message">${failed}</p>` : skeleton();
  if (missing) return html`<nav class="crumbs" aria-label="Breadcrumb"><a href="./">Services</a></nav><h1 tabindex="-1">${data.last.length ? 'Deleted' : 'Not found'}</h1><p class="message">${missing}</p>${data.last.length ? html`<section class="card"><div class="head"><h2>Its last changes</h2></div>${past(data.last)}</section>` : nothing}`;
  if (!data && screen.url(query())) return skeleton();
  const whole = { ...state, noticed: state.notices.map(notice) };
  return screen.view({ state: whole, data, query: query(), ask, draw });
};
const titled = () => {
  const what = at() === 'service' || at() === 'localservice' ? query().get('name') : SCREENS[at()]?.title ?? 'Services';
  document.title = `${what} · rpcregistry`;
};
let root = null;
function draw() {
  titled();
  root ??= document.body.appendChild(document.createElement('div'));
  render(html`${bar()}<main id="main">${body()}</main>${help()}`, root);
}

draw();
load().then(again);
follow();
setInterval(() => { if (!document.hidden) draw(); }, 1000);
