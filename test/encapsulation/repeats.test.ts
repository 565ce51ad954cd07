/** Proxies that repeat requests [RFC 9110 9.2.2]: no loss and no duplicates, or an end with a reason. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  arriveGet,
  arrivePost,
  type ClientOutput,
  ECHO_STRING,
  KeepAliveClient,
  type KeepAliveTarget,
  keepAnswer,
  openVirtualConnection,
  parseTarget,
  releaseGet,
  requestNumber,
  room,
  type Session,
  sendDown,
  type VirtualConnection,
} from "../../src/encapsulation/index.ts";
import { runs } from "../support/long-form.ts";
import { exchangePost, formatResponse, RequestReader } from "./raw-server.ts";
import { DATE, GUID, join, octets, randomFrom, randomOctets, target } from "./support.ts";

interface Request {
  readonly session: Session;
  readonly target: KeepAliveTarget;
  readonly body: Uint8Array;
}

function readRequest(session: Session, written: readonly Uint8Array[]): Request {
  const read = new RequestReader().feed(join(written));
  assert(read !== undefined);
  const parsed = parseTarget(read.head.target);
  assert(parsed.type === "target" && parsed.target.encapsulation === "KeepAlive");
  return { session, target: parsed.target, body: read.rest };
}

/** A client, a server, and between them a proxy that loses answers and repeats their requests. */
class RepeatingProxy {
  readonly client = new KeepAliveClient({ serverHost: "server.domain.net", guid: GUID });
  state: VirtualConnection | undefined;
  readonly up: Uint8Array[] = [];
  readonly down: Uint8Array[] = [];
  readonly lost: ClientOutput[] = [];
  /** Octets waiting at the server. */
  outbox: Uint8Array = new Uint8Array(0);
  repeats = 0;
  readonly #random: () => number;
  /** The client's outstanding requests, and its earlier ones. */
  readonly #waiting = new Map<Session, Request>();
  readonly #past: Request[] = [];
  #parked: Request | undefined;

  constructor(random: () => number) {
    this.#random = random;
    this.#do(this.client.start(0));
  }

  /** Performs one of the possible steps. Returns false when there is none. */
  step(): boolean {
    const [get, post] = [this.#waiting.get("get"), this.#waiting.get("post")];
    const steps: (() => void)[] = [];
    if (post !== undefined) steps.push(() => this.#exchange(post));
    if (get !== undefined && this.#parked !== get) steps.push(() => this.#get(get));
    if (get !== undefined && this.#parked === get) {
      if (this.outbox.length > 0 || this.#random() < 0.1) steps.push(() => this.#flush());
      if (this.#random() < 0.2) steps.push(() => this.#again(get));
    }
    if (this.#random() < 0.2 && this.#past.length > 0) steps.push(() => this.#stale());
    steps[Math.floor(this.#random() * steps.length)]?.();
    return steps.length > 0;
  }

  send(data: Uint8Array): void {
    this.#do(this.client.send(data, 0));
  }

  #do(outputs: readonly ClientOutput[]): void {
    for (const output of outputs) {
      if (output.type === "write" && output.session !== "secondPost")
        this.#waiting.set(output.session, readRequest(output.session, output.octets));
      else if (output.type === "data") this.down.push(output.data.slice());
      else if (output.type === "lost") this.lost.push(output);
    }
  }

  /** The answer finally reaches the client. */
  #answer(request: Request, body: Uint8Array): void {
    this.#waiting.delete(request.session);
    this.#past.push(request);
    const head = formatResponse({ status: 200, now: DATE, contentLength: body.length });
    this.#do(this.client.feed(request.session, join([head, body]), 0));
  }

  #connection(of: KeepAliveTarget): VirtualConnection {
    // Plain data: it may be cloned at any time.
    this.state = structuredClone(this.state ?? openVirtualConnection(of, 0));
    return this.state;
  }

  #exchange(post: Request): void {
    const times = this.#times();
    for (let time = 0; time < times; time++) {
      const exchanged = exchangePost(this.#connection(post.target), post.target, post.body, 0);
      assert.equal(exchanged.type, "answer");
      if (exchanged.type !== "answer") return;
      if (exchanged.data.length > 0) this.up.push(exchanged.data.slice());
      if (exchanged.handshake && this.#parked !== undefined) {
        const get = this.#parked;
        this.#parked = undefined;
        this.#answered(get, ECHO_STRING);
      }
    }
    this.#answer(post, new Uint8Array(0));
  }

  #get(get: Request): void {
    const arrived = arriveGet(this.#connection(get.target), get.target, 0);
    if (arrived.type === "handshake") this.#answered(get, ECHO_STRING);
    else {
      assert.equal(arrived.type, "park");
      this.#parked = get;
    }
  }

  /** A parked GET is repeated. */
  #again(get: Request): void {
    this.repeats += 1;
    assert.equal(arriveGet(this.#connection(get.target), get.target, 0).type, "supersede");
  }

  #flush(): void {
    const { state } = this;
    const get = this.#parked;
    if (state === undefined || get === undefined || room(state) === 0) return;
    const length = Math.min(this.outbox.length, room(state), 1 + Math.floor(this.#random() * 100));
    const body = this.outbox.subarray(0, length);
    if (length === 0) releaseGet(state);
    else {
      assert.deepEqual(sendDown(state, length, 0), { type: "send", length });
      keepAnswer(state, body);
    }
    this.outbox = this.outbox.subarray(length);
    this.#parked = undefined;
    this.#answered(get, body);
  }

  /** A GET is answered. The answer may be lost, and is the same for a repetition. */
  #answered(get: Request, body: Uint8Array): void {
    for (let time = this.#times(); time > 1; time--) {
      const arrived = arriveGet(this.#connection(get.target), get.target, 0);
      assert.deepEqual(arrived, { type: "repeat", answer: new Uint8Array(body) });
    }
    this.#answer(get, body);
  }

  /** A request answered long ago is repeated. */
  #stale(): void {
    const past = this.#past[Math.floor(this.#random() * this.#past.length)] as Request;
    const state = this.#connection(past.target);
    const { session } = past;
    const last = session === "get" ? state.getNumber : state.postNumber;
    const again = requestNumber(past.target) === last;
    const arrived =
      session === "get" ? arriveGet(state, past.target, 0) : arrivePost(state, past.target, 0, past.body.length);
    if (again) assert.equal(arrived.type, "repeat");
    else assert.deepEqual([arrived.type, "scope" in arrived && arrived.scope], ["refuse", "request"]);
  }

  #times(): number {
    const times = 1 + Math.floor(this.#random() ** 2 * 3);
    this.repeats += times - 1;
    return times;
  }
}

test("KeepAlive: a proxy that repeats requests causes no duplicates and no reordering", () => {
  let repeats = 0;
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const random = randomFrom(seed);
      const proxy = new RepeatingProxy(random);
      const [sentUp, sentDown] = [randomOctets(500, random), randomOctets(500, random)];
      for (let at = 0; at < 500; ) {
        const length = 1 + Math.floor(random() * 60);
        proxy.send(sentUp.subarray(at, at + length));
        proxy.outbox = join([proxy.outbox, sentDown.subarray(at, at + length)]);
        at += length;
        for (let steps = Math.floor(random() * 8); steps > 0; steps--) proxy.step();
      }
      const whole = () => join(proxy.up).length >= 500 && join(proxy.down).length >= 500;
      for (let steps = 0; steps < 2000 && !whole(); steps++) proxy.step();
      assert.deepEqual(proxy.lost, []);
      assert.deepEqual(join(proxy.up), sentUp);
      assert.deepEqual(join(proxy.down), sentDown);
      repeats += proxy.repeats;
    }),
    { numRuns: runs(300) },
  );
  assert(repeats > 1000, `${repeats} repeats`);
});

/** An established virtual connection whose client numbers its requests, and its n-th request. */
function counted(): { state: VirtualConnection; nth: (n: number) => KeepAliveTarget } {
  const nth = (n: number) => target(`/2.0/a/${GUID},ConnType=KeepAlive,ID=gw-${n}`, "KeepAlive");
  const state = openVirtualConnection(nth(1), 0);
  exchangePost(state, nth(1), ECHO_STRING, 0);
  assert.equal(arriveGet(state, nth(1), 0).type, "handshake");
  return { state, nth };
}

test("KeepAlive: a repeated request whose answer is no longer kept ends the virtual connection with a reason", () => {
  const { state, nth } = counted();
  arriveGet(state, nth(2), 0);
  sendDown(state, 4, 0);
  keepAnswer(state, octets("SSTP"));
  // The state saved for hibernation does not contain the answer.
  const woken = { ...state, answer: null };
  const arrived = arriveGet(woken, nth(2), 0);
  assert.deepEqual([arrived.type, "reason" in arrived && arrived.reason], ["refuse", "AnswerForgotten"]);
  assert.equal(woken.closed, "AnswerForgotten");
  assert.deepEqual(exchangePost(state, nth(1), ECHO_STRING, 0), {
    type: "answer",
    handshake: false,
    data: new Uint8Array(0),
  });
});

test("KeepAlive: an unexpected number ends the virtual connection; an ID of another kind is ignored", () => {
  for (const session of ["get", "post"] as const) {
    const { state, nth } = counted();
    const arrived = session === "get" ? arriveGet(state, nth(3), 0) : arrivePost(state, nth(3), 0);
    assert.equal("reason" in arrived && arrived.reason, "BadSequence");
    assert.equal(state.closed, "BadSequence");
  }
  const { state } = counted();
  for (const id of ["gw-0", "gw-02", "gw-1x", "ugqrvphxsc2yqfjqh8ijah6crkziz8qrspvh9ja"]) {
    const same = target(`/2.0/a/${GUID},ConnType=KeepAlive,ID=${id}`, "KeepAlive");
    assert.equal(requestNumber(same), undefined);
    for (const body of ["one", "one"]) {
      const exchanged = exchangePost(state, same, octets(body), 0);
      assert.equal("data" in exchanged && exchanged.data.length, 3);
    }
  }
});
