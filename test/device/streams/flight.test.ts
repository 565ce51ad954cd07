/** How much of its streams a device has on its way, on simulated paths with a simulated clock. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Flight } from "../../../src/device/streams/flight.ts";
import {
  BATCH,
  FLIGHT_FIRST,
  FLIGHT_IN_TURNS,
  FLIGHT_LEAST,
  FLIGHT_MOST,
  QUEUE_MOST,
  SLOW,
  URGENT_SHARE,
} from "../../../src/device/streams/limits.ts";

const MB = 1_000_000;

/** A path that carries so many bytes a second, and takes so many milliseconds for a round trip when it is empty. */
class Path {
  rate: number;
  roundTrip: number;
  readonly flight: Flight;
  now = 0;
  /** When the path has carried everything that was sent. */
  #free = 0;
  #number = 0;
  readonly #under: {
    readonly number: number;
    readonly at: number;
    readonly octets: number;
    readonly urgent: boolean;
  }[] = [];
  /** Arrived, and acknowledged with the next urgent message. */
  readonly #due: number[] = [];
  carried = 0;
  most = 0;

  constructor(rate: number, roundTrip: number, flight = new Flight()) {
    this.rate = rate;
    this.roundTrip = roundTrip;
    this.flight = flight;
  }

  /** A device that always has something to send, for so many milliseconds. */
  run(milliseconds: number): void {
    const until = this.now + milliseconds;
    for (;;) {
      while (!this.flight.isFull) this.#send(Math.min(BATCH, this.flight.window));
      this.most = Math.max(this.most, this.flight.octets);
      const next = this.#under[0];
      if (next === undefined || next.at > until) break;
      this.#under.shift();
      this.now = next.at;
      this.carried += next.octets;
      this.#due.push(next.number);
      if (next.urgent) for (const number of this.#due.splice(0)) this.flight.acknowledged(number, this.now);
    }
    this.now = until;
  }

  #send(octets: number): void {
    this.#free = Math.max(this.#free, this.now) + (octets / this.rate) * 1000;
    this.#number += 1;
    const urgent = this.flight.isUrgent(octets);
    this.flight.sent(this.#number, octets, this.now, urgent);
    this.#under.push({ number: this.#number, at: this.#free + this.roundTrip, octets, urgent });
  }

  /** Bytes that wait, beyond what fills the path. */
  get waiting(): number {
    return this.flight.octets - (this.rate * this.roundTrip) / 1000;
  }
}

describe("what a device has on its way", () => {
  for (const [rate, roundTrip] of [
    [60 * MB, 50],
    [20 * MB, 200],
    [10 * MB, 5],
    [200 * MB, 1],
  ] as const) {
    it(`fills a path of ${rate / MB} MB/s and ${roundTrip} ms, and little waits`, () => {
      const path = new Path(rate, roundTrip);
      path.run(4000);
      const before = path.carried;
      path.run(2000);
      const share = (path.carried - before) / (2 * rate);
      assert.ok(share > 0.9, `${share} of the path is used`);
      assert.ok(path.waiting < QUEUE_MOST + 2 * BATCH, `${path.waiting} bytes wait`);
    });
  }

  it("never exceeds its limit by more than a batch, however long the path is", () => {
    const path = new Path(400 * MB, 50);
    path.run(4000);
    assert.ok(path.most > FLIGHT_MOST / 2 && path.most < FLIGHT_MOST + BATCH, `${path.most} bytes`);
    assert.ok(path.carried > 4 * 0.8 * 80 * MB, "which is 80 MB/s at 50 ms");
  });

  it("stays within what the edge holds where an exchange brings and takes", () => {
    const flight = new Flight();
    flight.restart(FLIGHT_IN_TURNS);
    const path = new Path(60 * MB, 50, flight);
    path.run(4000);
    assert.ok(path.most <= 512 * 1024, `${path.most} bytes`);
  });

  it("stays as it is for an hour, although something always waits", () => {
    const path = new Path(10 * MB, 20);
    path.run(10_000);
    const before = path.flight.window;
    const carried = path.carried;
    path.run(3_600_000);
    assert.ok(Math.abs(path.flight.window - before) <= QUEUE_MOST, `${path.flight.window} instead of ${before}`);
    assert.ok(path.carried - carried > 0.97 * 3600 * 10 * MB);
  });

  it("follows a path that becomes longer", () => {
    const path = new Path(20 * MB, 20);
    path.run(10_000);
    path.roundTrip = 700;
    path.run(90_000);
    const before = path.carried;
    path.run(10_000);
    assert.ok(path.carried - before > 0.25 * 10 * 20 * MB, `${(path.carried - before) / 10 / MB} MB/s`);
  });

  it("shrinks when the path becomes slow, so that nothing waits for long", () => {
    const path = new Path(60 * MB, 50);
    path.run(2000);
    path.rate = MB / 10;
    path.run(120_000);
    const seconds = path.waiting / path.rate;
    assert.ok(seconds < (2 * SLOW) / 1000, `${seconds} s`);
    assert.ok(path.flight.window >= FLIGHT_LEAST);
    path.rate = 60 * MB;
    path.run(20_000);
    assert.ok(path.flight.octets > 2 * MB, `and it grows again, to ${path.flight.octets}`);
  });

  it("does not grow while the device sends little", () => {
    const flight = new Flight();
    for (let number = 1; number < 1000; number += 1) {
      flight.sent(number, 100, number);
      flight.acknowledged(number, number + 1);
    }
    assert.deepEqual([flight.window, flight.octets], [FLIGHT_FIRST, 0]);
  });

  it("asks for acknowledgements only when they are needed, and then for some in each window", () => {
    const flight = new Flight();
    let number = 0;
    const send = (octets: number) => {
      const urgent = flight.isUrgent(octets);
      number += 1;
      flight.sent(number, octets, number, urgent);
      return urgent;
    };
    for (let key = 0; key < 100; key += 1) assert.equal(send(100), false, "a keystroke waits for nobody");
    let last = 0;
    while (!flight.isFull) if (send(1000)) last = number;
    assert.ok((number - last) * 1000 <= FLIGHT_FIRST / URGENT_SHARE, `${number - last} messages behind the last`);
    for (let n = 1; n <= last; n += 1) flight.acknowledged(n, number);
    assert.equal(flight.isFull, false, "so a full window never waits for an acknowledgement that nobody hurries");
  });

  it("learns nothing of the way from an acknowledgement that may have waited", () => {
    const path = new Path(20 * MB, 20);
    path.run(10_000);
    const { window } = path.flight;
    path.flight.sent(1_000_000, 100, path.now, false);
    path.flight.acknowledged(1_000_000, path.now + 5000);
    assert.equal(path.flight.window, window);
  });

  it("ignores acknowledgements of other messages, and forgets what is lost", () => {
    const flight = new Flight();
    flight.sent(3, 1000, 0);
    flight.acknowledged(2, 1);
    flight.acknowledged(4, 1);
    assert.equal(flight.octets, 1000);
    flight.lost(3);
    flight.lost(3);
    assert.equal(flight.octets, 0);
  });
});
