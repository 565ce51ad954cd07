/** Dialling over a scripted network, with time driven by the test. */
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { connect, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { DeviceError } from "../../../src/device/device-error.ts";
import { type Dialler, dial, direct, type Network, type ResolvedAddress } from "../../../src/device/transports/dial.ts";
import { listen } from "../../support/sockets.ts";

/** The outcome of an attempt or lookup: milliseconds until it succeeds or fails. Without either it is silent. */
interface Fate {
  readonly after?: number;
  readonly code?: string;
}

interface Script {
  /** For both families together. */
  readonly name?: Fate & { readonly addresses?: readonly string[] };
  /** For one family only; by default nothing arrives. */
  readonly 4?: Fate & { readonly addresses?: readonly string[] };
  readonly 6?: Fate & { readonly addresses?: readonly string[] };
  /** By default an address is silent. */
  readonly addresses?: Readonly<Record<string, Fate>>;
}

class FakeSocket extends EventEmitter {
  readonly address: string;
  destroyed = false;

  constructor(address: string) {
    super();
    this.address = address;
  }

  destroy(): this {
    this.destroyed = true;
    return this;
  }

  setNoDelay(): this {
    return this;
  }
}

/** A scripted network. Its log records what was started, with the time. */
class FakeNetwork implements Network {
  readonly log: string[] = [];
  readonly sockets: FakeSocket[] = [];
  readonly #script: Script;
  readonly #now: () => number;

  constructor(script: Script, now: () => number) {
    this.#script = script;
    this.#now = now;
  }

  lookup(_host: string, family: 0 | 4 | 6): Promise<readonly ResolvedAddress[]> {
    this.log.push(`${this.#now()} lookup ${family}`);
    const { after, code, addresses = [] } = this.#script[family === 0 ? "name" : family] ?? {};
    return new Promise((resolve, reject) => {
      if (after === undefined) return;
      setTimeout(() => {
        if (code !== undefined) reject(failure(code));
        else resolve(addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })));
      }, after);
    });
  }

  connect(address: string): Socket {
    this.log.push(`${this.#now()} connect ${address}`);
    const socket = new FakeSocket(address);
    this.sockets.push(socket);
    const { after, code } = this.#script.addresses?.[address] ?? {};
    if (after !== undefined) {
      setTimeout(() => {
        if (socket.destroyed) return;
        if (code === undefined) socket.emit("connect");
        else socket.emit("error", failure(code));
      }, after);
    }
    return socket as unknown as Socket;
  }

  /** Addresses of the open connections. */
  get open(): readonly string[] {
    return this.sockets.filter(({ destroyed }) => !destroyed).map(({ address }) => address);
  }
}

function failure(code: string): Error {
  return Object.assign(new Error(`connect ${code}`), { code });
}

/** Lets settled promises run, without any time passing. */
async function settle(): Promise<void> {
  for (let i = 0; i < 8; i += 1) await Promise.resolve();
}

interface Dialled {
  readonly network: FakeNetwork;
  /** The connected address, or the error. */
  outcome: string | Error | undefined;
  /** When the outcome was known. */
  at: number;
  /** Advances time. */
  pass(milliseconds: number): Promise<void>;
  readonly abort: AbortController;
}

/** Starts to dial `edge.example.com:443`, and drives the time. */
async function dialling(
  t: TestContext,
  script: Script,
  options: { readonly refuse?: (address: string) => DeviceError | undefined; readonly host?: string } = {},
): Promise<Dialled> {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  const network = new FakeNetwork(script, () => now);
  const abort = new AbortController();
  const { host = "edge.example.com", refuse } = options;
  const dialler: Dialler = direct({ network, refuse });
  const dialled: Dialled = {
    network,
    outcome: undefined,
    at: -1,
    abort,
    async pass(milliseconds) {
      for (const until = now + milliseconds; now < until; ) {
        // In steps of the smallest interval that any of these tests distinguishes.
        now += 10;
        t.mock.timers.tick(10);
        await settle();
      }
    },
  };
  dial({ host, port: 443, dialler, signal: abort.signal, timeout: 25_000 }).then(
    (socket) => {
      dialled.outcome = (socket as unknown as FakeSocket).address;
      dialled.at = now;
    },
    (error) => {
      dialled.outcome = error;
      dialled.at = now;
    },
  );
  await settle();
  return dialled;
}

function messageOf({ outcome }: Dialled): string {
  assert.ok(outcome instanceof DeviceError, String(outcome));
  assert.deepEqual([outcome.code, outcome.retryable], ["ConnectFailed", true]);
  return outcome.message;
}

const V4 = "192.0.2.1";
const V6 = "2001:db8::1";

describe("dialling a host name", () => {
  it("waits for a connection that takes longer than the delay between attempts", async (t) => {
    const dialled = await dialling(t, {
      name: { after: 10, addresses: [V6, V4] },
      addresses: { [V6]: { after: 10, code: "ENETUNREACH" }, [V4]: { after: 3_050 } },
    });
    await dialled.pass(5_000);
    assert.deepEqual([dialled.outcome, dialled.at], [V4, 3_070]);
  });

  it("tries the next address 250 ms after a silent one, and closes the loser", async (t) => {
    const dialled = await dialling(t, {
      name: { after: 0, addresses: [V6, V4] },
      addresses: { [V4]: { after: 20 } },
    });
    await dialled.pass(400);
    assert.equal(dialled.outcome, V4);
    assert.deepEqual(dialled.network.log, ["0 lookup 0", `10 connect ${V6}`, `260 connect ${V4}`]);
    assert.deepEqual(dialled.network.open, [V4]);
  });

  it("keeps earlier attempts running when the next one starts", async (t) => {
    const dialled = await dialling(t, {
      name: { after: 0, addresses: [V6, V4] },
      addresses: { [V6]: { after: 1_100 } },
    });
    await dialled.pass(2_000);
    assert.deepEqual([dialled.outcome, dialled.at], [V6, 1_110]);
    assert.deepEqual(dialled.network.open, [V6]);
  });

  it("tries the next address at once when one is refused (localhost: ::1 refused, 127.0.0.1 slow)", async (t) => {
    const dialled = await dialling(
      t,
      {
        name: { after: 0, addresses: ["::1", "127.0.0.1"] },
        addresses: { "::1": { after: 10, code: "ECONNREFUSED" }, "127.0.0.1": { after: 900 } },
      },
      { host: "localhost" },
    );
    await dialled.pass(2_000);
    assert.equal(dialled.outcome, "127.0.0.1");
    assert.deepEqual(dialled.network.log, ["0 lookup 0", "10 connect ::1", "20 connect 127.0.0.1"]);
  });

  it("alternates between address families, starting with that of the preferred address", async (t) => {
    const addresses = [V6, "2001:db8::2", "2001:db8::3", V4, "192.0.2.2"];
    const dialled = await dialling(t, { name: { after: 0, addresses } });
    await dialled.pass(1_500);
    assert.deepEqual(dialled.network.log.slice(1), [
      `10 connect ${V6}`,
      `260 connect ${V4}`,
      "510 connect 2001:db8::2",
      "760 connect 192.0.2.2",
      "1010 connect 2001:db8::3",
    ]);
  });

  it("tries at most sixteen addresses, each once", async (t) => {
    const many = Array.from({ length: 40 }, (_, i) => `192.0.2.${i >> 1}`);
    const dialled = await dialling(t, { name: { after: 0, addresses: many } });
    await dialled.pass(20_000);
    assert.deepEqual(
      dialled.network.sockets.map(({ address }) => address),
      Array.from({ length: 16 }, (_, i) => `192.0.2.${i}`),
    );
  });

  it("reports every address in one message when all fail, with a cure", async (t) => {
    const dialled = await dialling(t, {
      name: { after: 0, addresses: [V4, V6] },
      addresses: { [V6]: { after: 10, code: "ECONNREFUSED" } },
    });
    await dialled.pass(24_990);
    assert.equal(dialled.outcome, undefined, "a silent address may answer until the deadline");
    await dialled.pass(10);
    assert.equal(
      messageOf(dialled),
      "connect to edge.example.com failed: 192.0.2.1:443 ETIMEDOUT, [2001:db8::1]:443 ECONNREFUSED; " +
        "nothing is listening there: check the port, and that the server is running",
    );
    assert.deepEqual(dialled.network.open, []);
  });

  it("fails as soon as the last address is refused", async (t) => {
    const dialled = await dialling(t, {
      name: { after: 0, addresses: [V4, V6] },
      addresses: { [V4]: { after: 10, code: "EHOSTUNREACH" }, [V6]: { after: 10, code: "ENETUNREACH" } },
    });
    await dialled.pass(30);
    assert.match(
      messageOf(dialled),
      /192\.0\.2\.1:443 EHOSTUNREACH, \[2001:db8::1\]:443 ENETUNREACH; check the network/,
    );
    const { cause } = dialled.outcome as DeviceError;
    assert.deepEqual(
      (cause as AggregateError).errors.map(({ code }) => code),
      ["EHOSTUNREACH", "ENETUNREACH"],
    );
  });

  it("has a message for an error without one", async (t) => {
    const dialled = await dialling(t, { name: { after: 0, addresses: [V4] } });
    await dialled.pass(10);
    dialled.network.sockets[0]?.emit("error", new AggregateError([]));
    await settle();
    assert.match(messageOf(dialled), /192\.0\.2\.1:443 AggregateError/);
  });

  it("reports a name without an address", async (t) => {
    const dialled = await dialling(t, { name: { after: 20, code: "ENOTFOUND" } });
    await dialled.pass(20);
    assert.match(
      messageOf(dialled),
      /^connect to edge.example.com failed: the name has no address \(ENOTFOUND\); check its spelling/,
    );
  });

  it("reports that no DNS server answers", async (t) => {
    const dialled = await dialling(t, { name: { after: 20, code: "EAI_AGAIN" } });
    await dialled.pass(20);
    assert.match(messageOf(dialled), /no DNS server answered \(EAI_AGAIN\); check the network/);
  });

  it("reports a lookup that timed out", async (t) => {
    const dialled = await dialling(t, {});
    await dialled.pass(24_990);
    assert.equal(dialled.outcome, undefined);
    await dialled.pass(10);
    assert.match(messageOf(dialled), /the name was not resolved within 25 s; check the DNS server/);
  });

  it("waits for a slow lookup", async (t) => {
    const dialled = await dialling(t, {
      name: { after: 9_000, addresses: [V4] },
      addresses: { [V4]: { after: 100 } },
    });
    await dialled.pass(10_000);
    assert.deepEqual([dialled.outcome, dialled.at], [V4, 9_100]);
  });

  it("connects over one family when the query for the other is dropped", async (t) => {
    const dialled = await dialling(t, {
      name: { after: 10_000, code: "EAI_AGAIN" },
      4: { after: 20, addresses: [V4] },
      addresses: { [V4]: { after: 30 } },
    });
    await dialled.pass(1_000);
    assert.deepEqual([dialled.outcome, dialled.at], [V4, 300]);
    assert.deepEqual(dialled.network.log, ["0 lookup 0", "250 lookup 4", "250 lookup 6", `270 connect ${V4}`]);
  });

  it("waits for the other family when the first is refused", async (t) => {
    const dialled = await dialling(t, {
      4: { after: 20, addresses: [V4] },
      6: { after: 2_000, addresses: [V6] },
      addresses: { [V4]: { after: 10, code: "ECONNREFUSED" }, [V6]: { after: 10 } },
    });
    await dialled.pass(3_000);
    assert.deepEqual([dialled.outcome, dialled.at], [V6, 2_260]);
  });

  it("tries a late address at once when the delay has passed", async (t) => {
    const dialled = await dialling(t, {
      4: { after: 20, addresses: [V4] },
      6: { after: 1_000, addresses: [V6] },
      addresses: { [V6]: { after: 10 } },
    });
    await dialled.pass(2_000);
    assert.deepEqual([dialled.outcome, dialled.at], [V6, 1_260]);
  });

  it("skips the lookup for an IP address", async (t) => {
    const dialled = await dialling(t, { addresses: { [V6]: { after: 30 } } }, { host: V6 });
    await dialled.pass(50);
    assert.deepEqual([dialled.outcome, dialled.network.log], [V6, [`0 connect ${V6}`]]);
  });

  it("stops when its signal aborts, and leaves no socket open", async (t) => {
    for (const when of [0, 10, 300, 1_000]) {
      t.mock.timers.reset();
      const dialled = await dialling(t, { name: { after: 10, addresses: [V6, V4] } });
      await dialled.pass(when);
      const why = new Error("closed");
      dialled.abort.abort(why);
      await settle();
      assert.equal(dialled.outcome, why, String(when));
      const begun = dialled.network.log.length;
      await dialled.pass(2_000);
      assert.deepEqual([dialled.network.open, dialled.network.log.length], [[], begun], String(when));
    }
  });

  it("connects to none of the addresses when the caller refuses one", async (t) => {
    const refusal = new DeviceError("TokenInClear", "not there");
    const refuse = (address: string) => (address === V6 ? refusal : undefined);
    const dialled = await dialling(
      t,
      { name: { after: 10, addresses: [V4, V6] }, addresses: { [V4]: { after: 0 } } },
      { refuse },
    );
    await dialled.pass(1_000);
    assert.equal(dialled.outcome, refusal);
    assert.deepEqual(dialled.network.log, ["0 lookup 0"]);
  });
});

it("the address that answered is tried first the next time", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const network = new FakeNetwork(
    { name: { after: 0, addresses: [V6, V4] }, addresses: { [V4]: { after: 10 } } },
    () => 0,
  );
  const dialler = direct({ network });
  for (let i = 0; i < 2; i += 1) {
    const dialled = dial({ host: "edge.example.com", port: 443, dialler });
    await settle();
    for (let step = 0; step < 40; step += 1) {
      t.mock.timers.tick(10);
      await settle();
    }
    await dialled;
  }
  assert.deepEqual(
    network.sockets.map(({ address }) => address),
    [V6, V4, V4],
  );
});

it("an address that has connected is tried beside a lookup that has become slow", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const script: { name: Fate & { addresses: readonly string[] }; addresses: Record<string, Fate> } = {
    name: { after: 0, addresses: [V4] },
    addresses: { [V4]: { after: 10 }, [V6]: { after: 10 } },
  };
  let now = 0;
  const network = new FakeNetwork(script, () => now);
  const once = async () => {
    const dialled = dial({ host: "edge.example.com", port: 443, dialler: direct({ network }) });
    await settle();
    const until = now + 6_000;
    for (; now < until; now += 10) {
      t.mock.timers.tick(10);
      await settle();
    }
    return ((await dialled) as unknown as FakeSocket).address;
  };
  assert.equal(await once(), V4);
  // A silent server beside one that answers.
  script.name = { after: 5_000, addresses: [V6] };
  const start = now;
  assert.equal(await once(), V4);
  assert.ok(network.log.includes(`${start + 240} connect ${V4}`), network.log.join());
  // The name has moved.
  script.addresses[V4] = {};
  assert.equal(await once(), V6);
});

it("a custom dialler, such as a proxy, replaces the built-in one", async (t) => {
  const server = await listen((socket) => socket.end("hello"));
  t.after(() => server.close());
  const asked: unknown[] = [];
  const proxy: Dialler = (to) => {
    asked.push(to);
    const socket = connect(server.port, "127.0.0.1");
    return new Promise((resolve) => socket.on("connect", () => resolve(socket)));
  };
  const socket = await dial({ host: "edge.example.com", port: 443, dialler: proxy });
  assert.deepEqual(asked, [{ host: "edge.example.com", port: 443 }]);
  let heard = "";
  for await (const octets of socket) heard += octets;
  assert.equal(heard, "hello");
});
