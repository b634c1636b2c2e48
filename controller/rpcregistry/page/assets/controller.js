// This process, and what it reads and writes.
import { ago, html, ms, nothing, number, status, wide, clock } from './parts.js';

export const url = () => null;
const source = one => one.unknown ? status('bad', one.unknown) : one.filled ? status('ok', 'Read') : status('warn', 'Reading');
// The server ends each watch after some minutes; any other reason is worth a look.
const restarts = one => {
  const all = Object.entries(one.restarts), odd = all.filter(([reason]) => reason !== 'ended');
  return html`${number(all.reduce((sum, [, count]) => sum + count, 0))}${odd.map(([reason, count]) => html` <span class="late">${number(count)} ${reason}</span>`)}`;
};
const histogram = lag => {
  const counts = lag.buckets.map(([, count]) => count), top = Math.max(...counts, 1), width = 100 / counts.length;
  return html`<svg class="hist" viewBox="0 0 100 92" preserveAspectRatio="none" role="img" aria-label=${`Half of the changes take up to ${ms(lag.allP50)}, 99 of 100 up to ${ms(lag.allP99)}`}>${counts.map((count, i) => html`<svg x=${(i * width).toFixed(2)}><rect y=${(92 - count / top * 90).toFixed(1)} width=${(width - .8).toFixed(2)} height=${(count / top * 90).toFixed(1)}/></svg>`)}</svg>
  <div class="ax">${lag.buckets.map(([bound]) => html`<span>${bound < 1000 ? bound : `${bound / 1000}s`}</span>`)}</div>`;
};

export const view = ({ state }) => {
  const zookeeper = state.zookeeper, lag = state.lag, given = state.settings.filter(one => one.origin !== 'default');
  const settings = [...given, ...state.settings.filter(one => one.origin === 'default')];
  return html`<div class="titleline"><h1 tabindex="-1">Controller</h1><span class="soft mono">${state.identity}</span></div>${state.noticed}
  <div class="two"><div class="stack">
  <section class="card"><div class="head"><h2>What it reads from the API server</h2></div>${wide('Sources', html`<table><caption class="sr">Sources</caption><thead><tr><th scope="col">Kind</th><th scope="col" class="num">Objects</th><th scope="col">State</th><th scope="col" class="num">Watch begun again</th><th scope="col" class="num">Heard</th></tr></thead><tbody>${state.sources.map(one => html`<tr><td class="mono">${one.resource}</td><td class="num">${number(one.count)}</td><td class="words">${source(one)}</td><td class="num">${restarts(one)}</td><td class="num soft nowrap">${ago(one.heard)}</td></tr>`)}</tbody></table>`)}</section>
  <section class="card"><div class="head wrap"><h2>Pod changed → znode written</h2><span class="soft r">${lag.changes ? `the last ${number(lag.changes)} · p50 ${ms(lag.allP50)} · p99 ${ms(lag.allP99)}` : 'no change yet'}</span></div>${lag.changes ? histogram(lag) : nothing}</section>
  <section class="card"><div class="head"><h2>Settings</h2><span class="soft r">${number(settings.length)}, ${number(given.length)} not as by default</span></div>${wide('Settings', html`<table><caption class="sr">Settings</caption><thead><tr><th scope="col">Flag</th><th scope="col">Value</th><th scope="col">From</th></tr></thead><tbody>${settings.map(one => html`<tr><td class="mono nowrap">${one.flag}</td><td class="mono words">${one.value || '–'}</td><td class="soft">${one.origin}</td></tr>`)}</tbody></table>`)}</section>
  </div><div class="stack">
  <section class="card"><div class="head"><h2>Replicas</h2></div><dl class="kv">${state.replicas.map(([name, leads]) => html`<dt class="mono">${name}</dt><dd>${leads ? status('ok', 'Leads') : status('none', 'Waits')}</dd>`)}${state.replicas.length ? nothing : html`<dt>–</dt><dd>Nobody leads</dd>`}<dt>Lease</dt><dd class="mono">${state.lease}</dd><dt>This page</dt><dd>${state.role === 'leader' ? html`the leader's${state.since ? html`, which leads since ${clock(state.since)}` : nothing}` : 'a replica that waits'}</dd></dl></section>
  <section class="card"><div class="head"><h2>ZooKeeper</h2><span class="r">${!state.registry ? status('none', 'Not written') : zookeeper.connected ? status('ok', 'Connected') : status('bad', 'Not connected')}</span></div><dl class="kv"><dt>Servers</dt><dd class="mono words">${zookeeper.servers}</dd><dt>Since</dt><dd>${ago(zookeeper.since)}</dd><dt>Refused</dt><dd>${zookeeper.refused || '–'}</dd><dt>Heartbeat</dt><dd>${ago(zookeeper.heartbeat)}</dd><dt>Compared</dt><dd>${ago(zookeeper.compared)}${zookeeper.differ ? `, ${number(zookeeper.differ)} differ` : ''}</dd></dl></section>
  <section class="card"><div class="head"><h2>Waiting</h2></div><dl class="kv">${Object.entries(state.queues).map(([name, depth]) => html`<dt>${name}</dt><dd>${number(depth)}${state.refused[name] ? html` <span class="late">${number(state.refused[name])} refused</span>` : nothing}</dd>`)}<dt>Unwritten</dt><dd>${number(state.waiting)}</dd>${Object.entries(state.held.guards).map(([name, count]) => html`<dt>Held: ${name}</dt><dd>${count ? status('hold', number(count)) : '0'}</dd>`)}</dl></section>
  <section class="card"><div class="head"><h2>Process</h2></div><dl class="kv"><dt>Version</dt><dd>${state.version}, Python ${state.python}</dd><dt>Memory</dt><dd>${number(Math.round(state.memory))} ${state.memoryLimit == null ? html`MB <span class="soft">without a limit</span>` : `of ${number(Math.round(state.memoryLimit))} MB`}</dd><dt>Cluster</dt><dd class="mono words">${state.cluster}</dd></dl></section></div></div>`;
};
