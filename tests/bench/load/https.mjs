// HTTP/1.1 on raw TLS sockets, with a client certificate: whole requests as prepared bytes, answers scanned and no more.
//
// `Connection` keeps one connection open; `exchange` and `stream` are as those of grpc.mjs, `path` unused: a request
// brings its own. Of an answer's head only the status, Content-Length and chunking are read.

import tls from 'node:tls';

const HEAD_END = Buffer.from('\r\n\r\n');
const LINE_END = Buffer.from('\r\n');
const NONE = Buffer.alloc(0);

export class Connection {
  // `identity`: {ca, cert, key} as PEM text; a secure context is made once for all connections of one identity.
  constructor(port, identity) {
    this.failure = null;
    this.answer = null;
    this.held = NONE;
    this.socket = tls.connect({
      host: '127.0.0.1', port, servername: 'localhost', secureContext: contextOf(identity), ALPNProtocols: ['http/1.1'],
    });
    this.socket.setNoDelay(true);
    this.ready = new Promise((resolve, reject) => {
      this.socket.once('secureConnect', resolve);
      this.socket.once('error', reject);
    });
    this.ready.catch(() => {});
    this.socket.on('data', (chunk) => this.received(chunk));
    this.socket.on('error', (error) => this.fail(error));
    this.socket.on('close', () => this.fail(new Error('the server closed the connection')));
  }

  // One answer, of which `onFirst` is told the first byte. Resolves with the number of bytes of its body.
  exchange(path, request, onFirst = null) {
    return this.send(request, onFirst, null, () => {});
  }

  // An answer without end: `onMessage(bytes)` for each chunk of it, `opened` once its head is there.
  stream(path, request, onMessage) {
    let opened;
    const head = new Promise((resolve) => { opened = resolve; });
    const done = this.send(request, null, onMessage, opened);
    done.catch(() => {});
    return {opened: Promise.race([head, done.then(() => { throw new Error('the stream ended at once'); })]), done};
  }

  close() { this.socket.destroy(); }

  send(request, onFirst, onMessage, onHead) {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      this.answer = {resolve, reject, onFirst, onMessage, onHead, status: 0, left: -1, chunked: false, bytes: 0, error: ''};
      this.socket.write(request);
    });
  }

  fail(error) {
    this.failure ??= error;
    this.answer?.reject(this.failure);
    this.answer = null;
  }

  received(chunk) {
    const answer = this.answer;
    if (answer === null) return this.fail(new Error('the server answered what nobody asked'));
    if (answer.onFirst !== null) { answer.onFirst(); answer.onFirst = null; }
    let data = this.held.length ? Buffer.concat([this.held, chunk]) : chunk;
    this.held = NONE;
    if (answer.status === 0) {
      const end = data.indexOf(HEAD_END);
      if (end < 0) { this.held = data; return; }
      readHead(answer, data.latin1Slice(0, end + 2));
      data = data.subarray(end + HEAD_END.length);
      if (answer.status < 300) answer.onHead();
    }
    if (answer.chunked) return this.readChunks(answer, data);
    answer.bytes += data.length;
    answer.left -= data.length;
    if (answer.status >= 300) answer.error += data.utf8Slice();
    if (answer.left <= 0) this.ended(answer);
  }

  // Pieces of a large chunk are counted as they come; only one that a stream's reader wants is kept whole.
  readChunks(answer, data) {
    while (data.length) {
      if (answer.left < 0) {
        const line = data.indexOf(LINE_END);
        if (line < 0) break;
        answer.left = parseInt(data.latin1Slice(0, line), 16) + LINE_END.length;
        answer.last = answer.left === LINE_END.length;
        data = data.subarray(line + LINE_END.length);
        continue;
      }
      if (answer.onMessage && data.length < answer.left) break;
      const taken = Math.min(answer.left, data.length);
      answer.bytes += taken;
      if (answer.onMessage && !answer.last) answer.onMessage(data.subarray(0, taken - LINE_END.length));
      answer.left -= taken;
      data = data.subarray(taken);
      if (answer.left > 0) return;
      if (answer.last) return this.ended(answer);
      answer.left = -1;
    }
    if (data.length) this.held = Buffer.from(data);
  }

  ended(answer) {
    this.answer = null;
    if (answer.status < 300) answer.resolve(answer.bytes);
    else answer.reject(new Error(`HTTP ${answer.status}: ${answer.error}`));
  }
}

// A copy, because the prepared bytes get their next number before these are sent.
export const framed = (request) => Buffer.from(request);

function readHead(answer, head) {
  answer.status = Number(head.slice(9, 12));
  const length = /\r\ncontent-length: *(\d+)/i.exec(head);
  answer.chunked = length === null && /\r\ntransfer-encoding: *chunked/i.test(head);
  if (length === null && !answer.chunked && answer.status !== 204) throw new Error(`an answer without a length:\n${head}`);
  answer.left = length ? Number(length[1]) : answer.chunked ? -1 : 0;
}

const contexts = new Map();

function contextOf(identity) {
  const known = contexts.get(identity.cert);
  if (known) return known;
  const made = tls.createSecureContext(identity);
  contexts.set(identity.cert, made);
  return made;
}
