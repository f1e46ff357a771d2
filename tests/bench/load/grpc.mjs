// gRPC on Node's own http2 module: framing by hand, bodies as bytes, no package needed.
//
// `Connection` holds one TLS connection. `unary` and `stream` resolve when the call has ended and reject where its
// status is not OK; whoever measures reads the clock in the callbacks, as near to the socket as Node lets one.

import http2 from 'node:http2';

// A whole list may be under way without waiting for the receiver's word.
const WINDOW_BYTES = 64 * 1024 * 1024;
const FRAME_BYTES = 1024 * 1024;
const PREFIX_BYTES = 5;

export class Connection {
  // `tls`: {ca, cert, key} as PEM text.
  constructor(port, tls) {
    this.session = http2.connect(`https://localhost:${port}`, {
      ...tls,
      lookup: (host, options, done) => done(null, options.all ? [{address: '127.0.0.1', family: 4}] : '127.0.0.1', 4),
      settings: {initialWindowSize: WINDOW_BYTES, maxFrameSize: FRAME_BYTES},
    });
    this.session.setMaxListeners(0);
    this.failure = null;
    this.session.on('error', (error) => { this.failure = error; });
    this.ready = new Promise((resolve, reject) => {
      this.session.once('connect', () => { this.session.setLocalWindowSize(WINDOW_BYTES); resolve(); });
      this.session.once('error', reject);
      this.session.once('close', () => reject(new Error('closed before it was open')));
    });
    this.ready.catch(() => {});
  }

  call(path) {
    if (this.failure) throw this.failure;
    return this.session.request({':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers'});
  }

  // One answer; `onFirst` is called with its first byte. Resolves with the number of bytes received.
  async exchange(path, frame, onFirst = () => {}) {
    const call = this.call(path);
    let bytes = 0;
    call.on('data', (chunk) => { if (!bytes) onFirst(); bytes += chunk.length; });
    call.end(frame);
    await ended(call);
    return bytes;
  }

  // A server stream: `onMessage(bytes)` for each message. `opened` resolves with the first, `done` with the end.
  stream(path, frame, onMessage) {
    const call = this.call(path);
    const opened = new Promise((resolve) => {
      call.on('data', splitter((message) => { resolve(); onMessage(message); }));
    });
    call.end(frame);
    const done = ended(call);
    done.catch(() => {});
    return {opened: Promise.race([opened, done.then(() => { throw new Error(`${path} ended at once`); })]), done, call};
  }

  close() { this.session.destroy(); }
}

// The message with gRPC's prefix: not compressed, its length.
export function framed(message) {
  const frame = Buffer.alloc(PREFIX_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  message.copy(frame, PREFIX_BYTES);
  return frame;
}

function ended(call) {
  return new Promise((resolve, reject) => {
    let status = '';
    let why = '';
    const note = (headers) => {
      status = headers['grpc-status'] ?? status;
      why = headers['grpc-message'] ?? why;
    };
    call.on('response', note);
    call.on('trailers', note);
    call.on('error', (error) => { why = why || String(error); });
    call.on('close', () => {
      if (status === '0') resolve();
      else reject(new Error(`grpc-status ${status || 'missing'}, HTTP/2 code ${call.rstCode}: ${decodeURIComponent(why)}`));
    });
  });
}

// Chunks in, whole messages out.
function splitter(onMessage) {
  let held = Buffer.alloc(0);
  return (chunk) => {
    held = held.length ? Buffer.concat([held, chunk]) : chunk;
    while (held.length >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + held.readUInt32BE(1);
      if (held.length < end) return;
      onMessage(held.subarray(PREFIX_BYTES, end));
      held = held.subarray(end);
    }
  };
}
