/** Which of several edges a device sends to: every decision, with scripted connections and driven time. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { DeviceError } from "../../src/device/device-error.ts";
import type { Inbox } from "../../src/device/inbox.ts";
import {
  BUFFER_SECOND,
  BUFFERED,
  DRAIN_PATIENCE,
  EDGE_HEAD_START,
  EDGE_LOOK,
  EDGE_PATIENCE,
  EDGE_RETURN_FIRST,
  EDGE_RETURN_LAST,
} from "../../src/device/limits.ts";
import type { Outbox } from "../../src/device/outbox.ts";
import type { Platform } from "../../src/device/platform.ts";
import type { RelayConnection } from "../../src/device/relay-connection.ts";
import type { Outlet, RenewedConnectionOptions } from "../../src/device/renewed-connection.ts";
import { type EdgeLink, SeveralEdges } from "../../src/device/several-edges.ts";
import type { Connection } from "../../src/sstp/index.ts";

const lostError = (code: DeviceError["code"] = "ConnectFailed") => new DeviceError(code, `${code} here`);

/** The connection to one edge, as the test plays it. */
class ScriptedLink implements EdgeLink {
  readonly options: RenewedConnectionOptions;
  readonly started = Promise.withResolvers<void>();
  readonly renewed = Promise.withResolvers<void>();
  readonly calls: string[] = [];
  carriers: RelayConnection[] = [];
  readonly token: string;
  isRenewing = false;

  constructor(options: RenewedConnectionOptions) {
    this.options = options;
    this.token = `token ${options.options.edge?.at(-1)}`;
  }

  get outlet(): Outlet {
    return this.options.outbox;
  }

  start(): Promise<void> {
    return this.started.promise;
  }

  async retry({ code }: DeviceError): Promise<void> {
    this.calls.push(`retry ${code}`);
  }

  renew(): Promise<void> {
    return this.renewed.promise;
  }

  finished(): void {
    this.calls.push("finished");
  }

  giveUp({ message }: DeviceError): void {
    this.calls.push(`give up: ${message}`);
    if (!this.isRenewing) this.outlet.detach();
  }

  end(): void {
    this.calls.push("end");
  }

  /** It is connected, anew or for the first time. */
  connect(): void {
    this.carriers = [{} as RelayConnection];
    for (const carrier of this.carriers) this.outlet.attach(carrier);
    this.started.resolve();
  }

  /** Its carrier is lost. */
  lose(): void {
    this.carriers = [];
    this.outlet.detach();
  }

  acknowledge(): void {
    this.outlet.on({ type: "acknowledged", messages: [1] } as never, "bob");
  }
}

class World {
  readonly links: ScriptedLink[] = [];
  /** What the outbox was told: `attach 0`, `detach`, `on acknowledged`. */
  readonly told: string[] = [];
  readonly events: string[] = [];
  readonly outbox = { hasBegun: false, isBusy: true, isSending: true, isWaiting: false, moves: 0, begunOctets: 0 };
  readonly inbox: { full: Promise<void> | undefined } = { full: undefined };
  readonly several: SeveralEdges;
  readonly #t: TestContext;
  #now = 1_000_000;
  #progress = Promise.withResolvers<void>();

  constructor(t: TestContext, count: number) {
    this.#t = t;
    t.mock.timers.enable({ apis: ["setTimeout"] });
    t.mock.method(performance, "now", () => this.#now);
    const { told, events, outbox } = this;
    const full: object = Object.assign(outbox, {
      attach: (_: unknown, place: string) => told.push(`attach ${place.at(-1)}`),
      detach: () => told.push("detach"),
      on: ({ type }: { type: string }) => told.push(`on ${type}`),
      ending: () => ({ stuck: 7, arrived: 7, still: 7 }),
      rouse: () => told.push("rouse"),
      progress: () => this.#progress.promise,
    });
    this.several = new SeveralEdges({
      edges: Array.from({ length: count }, (_, index) => ({
        options: { address: "alice/pc", edge: `https://edge/${index}` },
        settings: { self: { identity: "alice", device: "pc" }, relay: `r${index}`, transport: "tcp", limit: 1 },
      })),
      options: {
        onReconnect: ({ code, advice, retryAfter, message }) =>
          events.push(`${code} ${advice} ${retryAfter} ${message}`),
        onEdgeLost: (url, { code }) => events.push(`gone ${url.at(-1)} ${code}`),
      },
      platform: {} as Platform,
      outbox: full as Outbox,
      inbox: this.inbox as Inbox,
      onLost: ({ code, message }) => events.push(`lost ${code} ${message}`),
      link: (options) => {
        const link = new ScriptedLink(options);
        this.links.push(link);
        return link;
      },
    });
    t.after(() => this.several.end());
  }

  link(index: number): ScriptedLink {
    const link = this.links[index];
    assert.ok(link !== undefined);
    return link;
  }

  /** The place of the edge in use. */
  get current(): string | undefined {
    return this.several.edge?.at(-1);
  }

  /** What the outbox was told since the last call. */
  take(): string[] {
    return this.told.splice(0);
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  }

  async pass(milliseconds: number): Promise<void> {
    await this.settle();
    for (let left = milliseconds; left > 0; left -= EDGE_LOOK) {
      const step = Math.min(left, EDGE_LOOK);
      this.#now += step;
      this.#t.mock.timers.tick(step);
      await this.settle();
    }
  }

  /** Something was acknowledged, so that those who wait look again. */
  async progress(): Promise<void> {
    this.#progress.resolve();
    this.#progress = Promise.withResolvers<void>();
    await this.settle();
  }
}

/** Some edges, all connected, the first in use. */
async function connected(t: TestContext, count = 2): Promise<World> {
  const world = new World(t, count);
  const starting = world.several.start();
  for (const link of world.links) link.connect();
  await world.settle();
  await starting;
  assert.equal(world.current, "0");
  world.take();
  return world;
}

describe("at the start", () => {
  it("the first edge gets a head start over another that is connected", async (t) => {
    const world = new World(t, 2);
    let isStarted = false;
    void world.several.start().then(() => {
      isStarted = true;
    });
    world.link(1).connect();
    await world.pass(EDGE_HEAD_START - 1);
    assert.equal(isStarted, false);
    world.link(0).connect();
    await world.settle();
    assert.deepEqual([isStarted, world.current], [true, "0"]);
  });

  it("the first edge waits for no other", async (t) => {
    const world = new World(t, 2);
    const starting = world.several.start();
    world.link(0).connect();
    await world.settle();
    await starting;
    assert.equal(world.current, "0");
  });

  it("the device does not wait longer than the head start", async (t) => {
    const world = new World(t, 2);
    const starting = world.several.start();
    world.link(1).connect();
    await world.pass(EDGE_HEAD_START);
    await starting;
    assert.equal(world.current, "1");
  });

  it("an edge that has failed needs no head start, and the next in the list has its own", async (t) => {
    const world = new World(t, 3);
    let isStarted = false;
    void world.several.start().then(() => {
      isStarted = true;
    });
    world.link(0).started.reject(lostError());
    world.link(2).connect();
    await world.settle();
    assert.equal(isStarted, false);
    world.link(1).connect();
    await world.settle();
    assert.deepEqual([isStarted, world.current], [true, "1"]);
    assert.deepEqual(world.link(0).calls, ["retry ConnectFailed"]);
    assert.deepEqual(world.link(1).calls, []);
  });

  it("an edge that fails once the device is closed is not tried again", async (t) => {
    const world = new World(t, 2);
    const starting = world.several.start();
    world.link(1).connect();
    await world.pass(EDGE_HEAD_START);
    await starting;
    world.several.end();
    world.link(0).started.reject(lostError("Closed"));
    await world.settle();
    assert.deepEqual(world.link(0).calls, ["end"]);
  });

  it("the error tells of an edge that may come back rather than of one that refuses", async (t) => {
    const world = new World(t, 2);
    const starting = world.several.start();
    world.link(0).started.reject(lostError("TokenRefused"));
    world.link(1).started.reject(new DeviceError("Refused", "it is busy", { advice: "retry", retryAfter: 7 }));
    await assert.rejects(starting, (error: DeviceError) => {
      assert.deepEqual([error.code, error.advice, error.retryAfter], ["Refused", "retry", 7]);
      assert.equal(error.message, "edge: TokenRefused here; edge: it is busy");
      return true;
    });
  });
});

describe("the outbox", () => {
  it("is seen by the edge in use alone", async (t) => {
    const world = await connected(t);
    const [used, other] = [world.link(0).outlet, world.link(1).outlet];
    assert.deepEqual([used.isBusy, used.isSending, used.ending().stuck], [true, true, 7]);
    assert.deepEqual([other.isBusy, other.isSending, other.ending().stuck], [false, false, 0]);
    world.link(1).acknowledge();
    assert.deepEqual(world.take(), []);
    world.link(0).acknowledge();
    assert.deepEqual(world.take(), ["on acknowledged"]);
    assert.equal(world.several.carrier, world.link(0).carriers[0]);
    assert.equal(world.several.carriers.length, 2);
  });

  it("is not seen by an edge whose carrier is lost while there is no other", async (t) => {
    const world = await connected(t);
    world.link(1).lose();
    world.link(0).lose();
    await world.settle();
    assert.deepEqual(world.take(), ["detach"]);
    const { outlet } = world.link(0);
    assert.deepEqual([outlet.isBusy, outlet.isSending, outlet.ending().stuck], [false, false, 0]);
    world.link(0).acknowledge();
    assert.deepEqual(world.take(), []);
    assert.equal(world.several.carrier, undefined);
  });

  it("is detached once, and not for an edge that is not in use", async (t) => {
    const world = await connected(t, 3);
    world.link(2).lose();
    world.link(1).lose();
    assert.deepEqual(world.take(), []);
    world.link(0).lose();
    world.link(0).outlet.detach();
    await world.settle();
    assert.deepEqual(world.take(), ["detach"]);
  });

  it("stays where a carrier is replaced within a turn, and goes on where one was waited for", async (t) => {
    const world = await connected(t);
    world.link(0).lose();
    world.link(0).connect();
    await world.settle();
    assert.deepEqual(world.take(), ["detach", "attach 0"]);
    for (const index of [0, 1]) world.link(index).lose();
    await world.settle();
    world.take();
    world.link(0).connect();
    assert.deepEqual(world.take(), ["attach 0"]);
  });

  it("goes nowhere once the device is closed", async (t) => {
    const world = await connected(t);
    world.several.end();
    world.link(0).lose();
    await world.settle();
    assert.deepEqual(world.take(), ["detach"]);
  });
});

describe("an edge that is lost", () => {
  it("is followed by the first that has stood long enough, or else by the first", async (t) => {
    const world = await connected(t, 3);
    world.link(0).lose();
    await world.settle();
    assert.equal(world.current, "1");
    assert.equal(world.several.carrier, world.link(1).carriers[0]);
    assert.equal(world.several.token, "token 1");
    // The first has failed, so it must stand for a while.
    world.link(0).connect();
    world.link(1).lose();
    await world.settle();
    assert.equal(world.current, "2");
    world.link(1).connect();
    world.link(2).lose();
    await world.settle();
    assert.equal(world.current, "0");
  });

  it("is used again after a pause that doubles with each failure in use, until it acknowledges", async (t) => {
    const world = await connected(t);
    const fail = async () => {
      world.link(0).lose();
      await world.settle();
      assert.equal(world.current, "1");
      world.link(0).connect();
    };
    const pauses = [1, 2, 4, 8, 16, 32, 64, 128].map((times) => Math.min(times * EDGE_RETURN_FIRST, EDGE_RETURN_LAST));
    for (const pause of pauses) {
      await fail();
      await world.pass(pause - EDGE_LOOK);
      assert.equal(world.current, "1");
      await world.pass(EDGE_LOOK);
      assert.equal(world.current, "0");
    }
    world.link(0).acknowledge();
    await fail();
    await world.pass(EDGE_RETURN_FIRST);
    assert.equal(world.current, "0");
  });

  it("keeps its place if it comes back first, though another has never failed", async (t) => {
    const world = await connected(t, 3);
    for (const index of [2, 0, 1]) {
      world.link(index).lose();
      await world.settle();
    }
    world.link(0).connect();
    assert.equal(world.current, "0");
    world.link(2).connect();
    await world.settle();
    assert.equal(world.current, "0");
  });

  it("does not take the place of a better one", async (t) => {
    const world = await connected(t);
    world.link(1).lose();
    world.link(1).connect();
    await world.pass(EDGE_RETURN_FIRST);
    assert.deepEqual([world.current, world.take()], ["0", []]);
  });
});

describe("the return to a better edge", () => {
  /** The second edge is in use with messages in flight, and the first has stood long enough. */
  async function returning(t: TestContext): Promise<World> {
    const world = await connected(t);
    world.outbox.hasBegun = true;
    world.link(0).lose();
    await world.settle();
    world.link(0).connect();
    await world.pass(EDGE_RETURN_FIRST);
    assert.deepEqual([world.current, world.several.isRenewing], ["1", true]);
    world.take();
    return world;
  }

  it("is at once where nothing is in flight", async (t) => {
    const world = await connected(t);
    world.link(0).lose();
    await world.settle();
    world.link(0).connect();
    world.take();
    await world.pass(EDGE_RETURN_FIRST);
    assert.deepEqual(world.take(), ["detach", "attach 0"]);
    assert.equal(world.several.isRenewing, false);
  });

  it("waits for what is in flight, and holds back what is new", async (t) => {
    const world = await returning(t);
    let isRenewed = false;
    void world.several.renew().then(() => {
      isRenewed = true;
    });
    await world.pass(DRAIN_PATIENCE - EDGE_LOOK);
    await world.progress();
    await world.pass(DRAIN_PATIENCE - EDGE_LOOK);
    assert.deepEqual([isRenewed, world.take()], [false, []]);
    world.outbox.hasBegun = false;
    await world.progress();
    assert.deepEqual([isRenewed, world.take()], [true, ["detach", "attach 0"]]);
    assert.deepEqual([world.current, world.several.isRenewing], ["0", false]);
  });

  it("is put off for long where a message stays in flight", async (t) => {
    const world = await returning(t);
    await world.pass(DRAIN_PATIENCE);
    assert.deepEqual([world.current, world.several.isRenewing, world.take()], ["1", false, []]);
    world.outbox.hasBegun = false;
    await world.pass(EDGE_RETURN_LAST - DRAIN_PATIENCE);
    assert.equal(world.current, "1");
    await world.pass(DRAIN_PATIENCE + EDGE_LOOK);
    assert.equal(world.current, "0");
  });

  it("is given up when the better edge is lost meanwhile", async (t) => {
    const world = await returning(t);
    world.link(0).lose();
    world.outbox.hasBegun = false;
    await world.progress();
    assert.deepEqual([world.current, world.take()], ["1", []]);
  });

  it("leaves it to the loss of the edge in use, which comes first", async (t) => {
    const world = await returning(t);
    world.link(1).lose();
    world.outbox.hasBegun = false;
    await world.progress();
    assert.deepEqual([world.current, world.take()], ["0", ["detach", "attach 0"]]);
  });

  it("leaves it to the loss of the edge in use, also when that has come back first", async (t) => {
    const world = await returning(t);
    world.link(1).lose();
    world.link(1).connect();
    await world.settle();
    assert.deepEqual([world.current, world.take()], ["1", ["detach", "attach 1"]]);
  });

  it("ends with the device", async (t) => {
    const world = await returning(t);
    world.several.end();
    world.outbox.hasBegun = false;
    await world.progress();
    assert.deepEqual(world.take(), []);
  });

  it("is the renewal of the edge in use while there is no other", async (t) => {
    const world = await connected(t);
    world.link(0).isRenewing = true;
    assert.equal(world.several.isRenewing, true);
    let isRenewed = false;
    void world.several.renew().then(() => {
      isRenewed = true;
    });
    await world.settle();
    assert.equal(isRenewed, false);
    world.link(0).renewed.resolve();
    await world.settle();
    assert.equal(isRenewed, true);
  });
});

describe("an edge at which messages stand still", () => {
  /** For how many seconds an edge may stand still. */
  async function patience(world: World, most = 1000): Promise<number> {
    const before = world.current;
    for (let seconds = 1; seconds <= most; seconds += 1) {
      await world.pass(1000);
      if (world.current !== before) return seconds;
    }
    return Number.POSITIVE_INFINITY;
  }

  it("is given up for another", async (t) => {
    const world = await connected(t);
    world.outbox.isWaiting = true;
    assert.equal((await patience(world)) * 1000, EDGE_PATIENCE);
    assert.match(world.link(0).calls.join(), /give up: nothing has moved for 10 s/);
  });

  it("is given up also while its connection is being replaced", async (t) => {
    const world = await connected(t);
    world.outbox.isWaiting = true;
    world.link(0).isRenewing = true;
    assert.equal((await patience(world)) * 1000, EDGE_PATIENCE);
    assert.deepEqual(world.take(), ["detach", "attach 1"]);
  });

  it("has more time for what is in buffers, up to a limit", async (t) => {
    const world = await connected(t);
    world.outbox.isWaiting = true;
    world.outbox.hasBegun = true;
    world.outbox.begunOctets = 3 * BUFFER_SECOND;
    assert.equal((await patience(world)) * 1000, EDGE_PATIENCE + 3000);
    world.link(0).connect();
    world.link(1).acknowledge();
    world.outbox.begunOctets = 1000 * BUFFERED;
    assert.equal((await patience(world)) * 1000, EDGE_PATIENCE + (BUFFERED / BUFFER_SECOND) * 1000);
  });

  it("has twice the time after each that was given up, until something is acknowledged", async (t) => {
    const world = await connected(t);
    world.outbox.isWaiting = true;
    // The edge that was given up must not return by itself.
    world.outbox.hasBegun = true;
    const next = async (used: 0 | 1) => {
      const seconds = await patience(world);
      world.link(used).connect();
      return seconds * 1000;
    };
    assert.deepEqual(
      [await next(0), await next(1), await next(0)],
      [1, 2, 4].map((times) => times * EDGE_PATIENCE),
    );
    world.link(1).acknowledge();
    assert.equal(await next(1), EDGE_PATIENCE);
  });

  it("has at most five minutes", async (t) => {
    const world = await connected(t);
    world.outbox.isWaiting = true;
    world.outbox.hasBegun = true;
    for (let used = 0; used < 6; used += 1) {
      await patience(world);
      world.link(used % 2).connect();
    }
    assert.equal((await patience(world)) * 1000, EDGE_RETURN_LAST);
  });

  it("is not one where something moves, nothing waits, or the application is behind", async (t) => {
    const world = await connected(t);
    assert.equal(await patience(world, 30), Number.POSITIVE_INFINITY);
    world.outbox.isWaiting = true;
    for (let seconds = 0; seconds < 30; seconds += 1) {
      world.outbox.moves += 1;
      assert.equal(await patience(world, 1), Number.POSITIVE_INFINITY);
    }
    world.inbox.full = new Promise(() => undefined);
    assert.equal(await patience(world, 30), Number.POSITIVE_INFINITY);
    world.inbox.full = undefined;
    assert.equal((await patience(world)) * 1000, EDGE_PATIENCE);
  });

  it("is kept while no other is connected, and given up at once when one is", async (t) => {
    const world = await connected(t);
    world.link(1).lose();
    world.outbox.isWaiting = true;
    assert.equal(await patience(world, 30), Number.POSITIVE_INFINITY);
    assert.deepEqual(world.link(0).calls, []);
    world.link(1).connect();
    assert.equal(await patience(world), 1);
  });

  it("is not one that is not connected", async (t) => {
    const world = await connected(t);
    world.outbox.isWaiting = true;
    for (const index of [0, 1]) world.link(index).lose();
    await world.pass(2 * EDGE_PATIENCE);
    assert.deepEqual(world.link(0).calls, []);
    // The time without a connection does not count against the next.
    world.link(1).connect();
    world.link(0).connect();
    assert.equal(world.current, "1");
  });

  it("leaves the next its whole time", async (t) => {
    const world = await connected(t);
    world.outbox.isWaiting = true;
    await world.pass(EDGE_PATIENCE - EDGE_LOOK);
    world.link(0).lose();
    await world.settle();
    assert.equal(world.current, "1");
    world.link(0).connect();
    world.outbox.hasBegun = true;
    assert.equal((await patience(world)) * 1000, EDGE_PATIENCE);
  });
});

describe("an edge that is lost for good", () => {
  it("is ended and reported, and the others go on with what waited for it", async (t) => {
    const world = await connected(t);
    world.link(0).options.onLost(lostError("TokenRefused"));
    assert.deepEqual(world.take(), ["detach", "rouse"]);
    await world.settle();
    assert.deepEqual([world.current, world.take()], ["1", ["attach 1"]]);
    assert.deepEqual(world.events, ["gone 0 TokenRefused"]);
    assert.deepEqual(world.link(0).calls, ["end"]);
    assert.deepEqual(
      [0, 1].map((n) => world.several.isGone(`https://edge/${n}`)),
      [true, false],
    );
  });

  it("ends the device if it is the last", async (t) => {
    const world = await connected(t);
    world.link(0).options.onLost(lostError("TokenRefused"));
    world.link(1).options.onLost(lostError("AddressInUse"));
    assert.deepEqual(world.events, ["gone 0 TokenRefused", "lost AddressInUse edge: AddressInUse here"]);
  });
});

describe("all edges", () => {
  it("learn that a message is done, and that the device is closed", async (t) => {
    const world = await connected(t);
    world.several.finished({} as Connection);
    world.several.end();
    for (const link of world.links) assert.deepEqual(link.calls, ["finished", "end"]);
  });

  it("are named in what is reported of them, with the advice and the time that they gave", async (t) => {
    const world = await connected(t);
    world.link(1).options.options.onReconnect?.(new DeviceError("Refused", "busy", { advice: "retry", retryAfter: 3 }));
    assert.deepEqual(world.events, ["Refused retry 3 edge: busy"]);
  });
});
