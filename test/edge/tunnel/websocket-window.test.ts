/** How much a WebSocket device is sent before it confirms, on simulated paths with a simulated clock. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { WINDOW_MOST, WINDOW_OCTETS, WINDOW_SPARE, WINDOWS_OCTETS } from "../../../src/edge/tunnel/limits.ts";
import { WebSocketWindow } from "../../../src/edge/tunnel/websocket-window.ts";

const MB = 1_000_000;
const MESSAGE = 60 * 1024;

/** An edge that always has something to send to a device, over a path with a rate and a round trip. */
class Path {
  readonly window: WebSocketWindow;
  rate: number;
  readonly roundTrip: number;
  now = 0;
  carried = 0;
  #free = 0;
  #marks = 0;
  #answers: { readonly mark: string; readonly at: number }[] = [];
  #ahead = 0;

  constructor(rate: number, roundTrip: number, window = new WebSocketWindow()) {
    this.rate = rate;
    this.roundTrip = roundTrip;
    this.window = window;
  }

  run(milliseconds: number): void {
    const until = this.now + milliseconds;
    for (;;) {
      while (!this.window.isFull) {
        this.#free = Math.max(this.#free, this.now) + (MESSAGE / this.rate) * 1000;
        this.carried += MESSAGE;
        if (!this.window.sent(MESSAGE)) continue;
        this.#marks += 1;
        this.window.marked(`${this.#marks}`, this.now);
        this.#answers.push({ mark: `${this.#marks}`, at: this.#free + this.roundTrip });
      }
      this.#ahead = this.window.unmarked + this.window.unanswered.reduce((sum, [, octets]) => sum + octets, 0);
      const next = this.#answers[0];
      if (next === undefined || next.at > until) break;
      this.#answers.shift();
      this.now = next.at;
      assert.ok(this.window.answered(next.mark, Math.floor(this.now)));
    }
    this.now = until;
  }

  get ahead(): number {
    return this.#ahead;
  }
}

describe("the window of a WebSocket device", () => {
  it("fills a path of 60 MB/s and 50 ms", () => {
    const path = new Path(60 * MB, 50);
    path.run(4000);
    const before = path.carried;
    path.run(2000);
    assert.ok(path.carried - before > 0.9 * 2 * 60 * MB, `${(path.carried - before) / 2 / MB} MB/s`);
    assert.ok(path.ahead <= 3 * MB + WINDOW_SPARE + 256 * 1024, `${path.ahead} bytes`);
    path.window.close();
  });

  it("stays small for a device that reads slowly", () => {
    const path = new Path(60 * MB, 50);
    path.run(2000);
    path.rate = MB;
    path.run(60_000);
    assert.ok(path.ahead <= WINDOW_OCTETS + 128 * 1024, `${path.ahead} bytes`);
    path.window.close();
  });

  it("has an upper limit", () => {
    const path = new Path(1000 * MB, 50);
    path.run(4000);
    assert.ok(path.ahead <= WINDOW_MOST + 128 * 1024, `${path.ahead} bytes`);
    path.window.close();
  });

  it("grows no further when the windows of the isolate are large enough together, and does when others are closed", () => {
    const paths = Array.from({ length: 40 }, () => new Path(1000 * MB, 50));
    for (const path of paths) path.run(4000);
    const beyond = paths.reduce((sum, { ahead }) => sum + Math.max(0, ahead - WINDOW_OCTETS - 128 * 1024), 0);
    assert.ok(beyond <= WINDOWS_OCTETS && beyond > WINDOWS_OCTETS / 2, `${beyond} bytes`);
    for (const { window } of paths.slice(1)) window.close();
    paths[0]?.run(4000);
    assert.ok((paths[0]?.ahead ?? 0) > 3 * MB);
    paths[0]?.window.close();
  });

  it("knows no answers to marks that it has not set, and counts what was saved", () => {
    const window = new WebSocketWindow([["1-2", WINDOW_OCTETS]], 10);
    assert.ok(window.isFull);
    assert.equal(window.answered("2-1", 0), false);
    assert.equal(window.answered("1-2", 0), true);
    assert.deepEqual([window.isFull, window.unanswered, window.unmarked], [false, [], 10]);
  });
});
