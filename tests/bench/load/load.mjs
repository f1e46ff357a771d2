// The load generator: `node load.mjs JOB.json` does one job and prints its measurements as one line of JSON.
//
// Every job: {kind, port, protocol: "grpc" | "https", tls: {ca, cert, key}, …}. A body (by HTTPS a whole request) is
// {file, slots: [{offset, width, of}]}: bytes prepared by whoever wrote the job, in which the digits of a running number
// (of: "count") or of a node (of: "node") are written over a slot of fixed width, so that the length of nothing around it
// changes. Times are milliseconds but for `seconds`, which the measurement took; `cpu` is this process's share of one
// core meanwhile.

import fs from 'node:fs';

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const {Connection, framed} = await import(job.protocol === 'https' ? './https.mjs' : './grpc.mjs');

const now = () => Number(process.hrtime.bigint()) / 1e6;
const digits = (number, width) => String(number).padStart(width, '0');

class Body {
  constructor({file, slots = []}) {
    this.message = fs.readFileSync(file);
    this.slots = slots;
  }

  frame(values = {}) {
    for (const {offset, width, of} of this.slots) this.message.write(digits(values[of], width), offset, 'latin1');
    return framed(this.message);
  }
}

class Cpu {
  constructor() { this.before = process.cpuUsage(); this.began = now(); }
  // What the measurement took, and how much of it this process computed.
  used() {
    const used = process.cpuUsage(this.before);
    const took = now() - this.began;
    return {seconds: took / 1e3, cpu: (used.user + used.system) / 1e3 / took};
  }
}

function summary(samples) {
  const sorted = Float64Array.from(samples).sort();
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  return {count: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted[sorted.length - 1]};
}

async function connect(job, count) {
  const connections = Array.from({length: count}, () => new Connection(job.port, job.tls));
  await Promise.all(connections.map((connection) => connection.ready));
  return connections;
}

// `concurrency` calls in flight on `connections` connections for `seconds`; bodies numbered from `first`.
async function calls(job) {
  const connections = await connect(job, job.connections);
  const body = new Body(job.body);
  const latencies = [];
  let count = job.first ?? 0;
  await Promise.all(connections.map((c) => c.exchange(job.path, body.frame({count: count++}))));
  const cpu = new Cpu();
  const end = now() + job.seconds * 1e3;
  const client = async (connection) => {
    while (now() < end) {
      const frame = body.frame({count: count++});
      const sent = now();
      await connection.exchange(job.path, frame);
      latencies.push(now() - sent);
    }
  };
  const began = now();
  await Promise.all(Array.from({length: job.concurrency}, (_, i) => client(connections[i % connections.length])));
  const took = now() - began;
  return {per_s: latencies.length / took * 1e3, ...summary(latencies), ...cpu.used(), next: count};
}

// The same call `times` times, one after the other: from the request to the first and to the last byte of the answer.
async function answers(job) {
  const [connection] = await connect(job, 1);
  const body = new Body(job.body);
  const whole = [];
  const first = [];
  let bytes = 0;
  const cpu = new Cpu();
  for (let i = 0; i < job.times; i++) {
    const sent = now();
    bytes = await connection.exchange(job.path, body.frame({count: i}), () => first.push(now() - sent));
    whole.push(now() - sent);
  }
  return {...summary(whole), first_p50: summary(first).p50, bytes, ...cpu.used()};
}

// `watchers` streams; then `times` publications one after the other, each once all watchers have seen the one before.
// A publication is seen in the message that holds its number between `mark`s.
async function watches(job) {
  const streams = await connect(job, job.connections);
  const [publisher] = await connect(job, 1);
  const seen = [];
  let waiting = {mark: Buffer.from('\0'), sent: 0, left: 0, all: () => {}};
  const onMessage = (message) => {
    if (!message.includes(waiting.mark)) return;
    seen.push(now() - waiting.sent);
    if (--waiting.left === 0) waiting.all();
  };
  const watch = new Body(job.watch.body).frame();
  const open = Array.from({length: job.watchers}, (_, i) =>
    streams[i % streams.length].stream(job.watch.path, watch, onMessage));
  await Promise.all(open.map((stream) => stream.opened));
  const body = new Body(job.publish.body);
  const width = job.publish.body.slots[0].width;
  const cpu = new Cpu();
  for (let i = 0; i < job.times; i++) {
    const count = job.first + i;
    const frame = body.frame({count});
    const all = new Promise((resolve) => {
      waiting = {mark: Buffer.from(`${job.mark}${digits(count, width)}`), sent: 0, left: job.watchers, all: resolve};
    });
    waiting.sent = now();
    await Promise.all([publisher.exchange(job.publish.path, frame), all]);
    await new Promise((resolve) => setTimeout(resolve, job.pause_ms));
  }
  return {...summary(seen), ...cpu.used()};
}

// Each node watches its own pods on a connection of its own; pods are bound at `per_s`, whatever has been answered.
async function binds(job) {
  const watch = new Body(job.watch.body);
  const waiting = new Map();
  const seen = [];
  const mark = Buffer.from(job.mark);
  const width = job.bind.body.slots.find((slot) => slot.of === 'count').width;
  const onMessage = (message) => {
    const at = message.indexOf(mark);
    if (at < 0) return;
    const number = Number(message.toString('latin1', at + mark.length, at + mark.length + width));
    const sent = waiting.get(number);
    if (sent === undefined) return;
    waiting.delete(number);
    seen.push(now() - sent);
  };
  const connections = [];
  for (const [node, identity] of job.nodes.entries()) {
    const connection = new Connection(job.port, {ca: job.tls.ca, ...identity});
    connections.push(connection.ready.then(() =>
      connection.stream(job.watch.path, watch.frame({node}), onMessage).opened));
    // Not all handshakes at once: a server answers them one by one anyway.
    if (connections.length % 50 === 0) await Promise.all(connections);
  }
  await Promise.all(connections);
  const binders = await connect(job, 4);
  const body = new Body(job.bind.body);
  const answered = [];
  const cpu = new Cpu();
  const began = now();
  for (let i = 0; i < job.times;) {
    const due = began + i * 1e3 / job.per_s;
    if (due > now()) {
      await new Promise((resolve) => setTimeout(resolve, Math.max(1, due - now())));
      continue;
    }
    const count = job.first + i;
    const frame = body.frame({count, node: i % job.nodes.length});
    waiting.set(count, now());
    answered.push(binders[i % binders.length].exchange(job.bind.path, frame));
    i++;
  }
  const per_s = job.times / (now() - began) * 1e3;
  await Promise.all(answered);
  const used = cpu.used();
  for (let patience = now() + 10e3; waiting.size && now() < patience;) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return {...summary(seen), unseen: waiting.size, per_s, ...used};
}

// Calls sent at `per_s`, whatever has been answered; times count from when a call was due, so that a stall is felt by
// every call it holds up.
async function paced(job) {
  const connections = await connect(job, job.connections);
  const body = new Body(job.body);
  await Promise.all(connections.map((c, i) => c.exchange(job.path, body.frame({count: job.first + i}))));
  const first = job.first + connections.length;
  const latencies = [];
  const answered = [];
  const cpu = new Cpu();
  const began = now();
  for (let i = 0; i < job.times;) {
    const due = began + i * 1e3 / job.per_s;
    if (due > now()) {
      await new Promise((resolve) => setTimeout(resolve, Math.max(1, due - now())));
      continue;
    }
    const frame = body.frame({count: first + i});
    answered.push(connections[i % connections.length].exchange(job.path, frame).then(() => latencies.push(now() - due)));
    i++;
  }
  await Promise.all(answered);
  return {...summary(latencies), ...cpu.used(), next: first + job.times};
}

// `watchers` streams on a connection each, `opening` of them at once, held until this process' input ends: said once all
// are open, for whoever measures the server meanwhile.
async function holds(job) {
  const cpu = new Cpu();
  const request = new Body(job.body).frame();
  let left = job.watchers;
  const open = [];
  const opener = async () => {
    while (left-- > 0) {
      const connection = new Connection(job.port, job.tls);
      await connection.ready;
      const {opened, done} = connection.stream(job.path, request, () => {});
      await opened;
      open.push(done);
    }
  };
  await Promise.all(Array.from({length: job.opening}, opener));
  console.log(JSON.stringify({count: open.length, ...cpu.used()}));
  const left_alone = new Promise((resolve) => process.stdin.resume().once('end', resolve));
  await Promise.race([left_alone, ...open.map((done) => done.then(() => { throw new Error('a watch ended'); }))]);
  return {held: open.length};
}

try {
  console.log(JSON.stringify(await {calls, answers, watches, binds, paced, holds}[job.kind](job)));
  process.exit(0);
} catch (error) {
  console.error(`load: ${job.kind}: ${error.message}`);
  process.exit(1);
}
