import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ClimbOptions, climb, noWay } from "../../src/device/climb.ts";
import { DeviceError } from "../../src/device/device-error.ts";
import type { RelayConnection } from "../../src/device/relay-connection.ts";

const refused = new DeviceError("ConnectFailed", "connection refused");
const portal = new DeviceError("NotAnEdge", "a login page answered");
const failure = (id: string, error?: DeviceError) => ({ id, stage: "connected" as const, error });

describe("the error of a device that found no way", () => {
  it("is that of the way that says most, and names the others", () => {
    const { code, message, retryable } = noWay([
      failure("tcp", refused),
      failure("websocket", portal),
      failure("polling"),
    ]);
    assert.deepEqual(
      [code, message, retryable],
      ["NotAnEdge", "a login page answered (tried: tcp, websocket, polling)", true],
    );
  });

  it("is the one error of a connection that all ways share", () => {
    assert.equal(noWay([failure("websocket", refused), failure("polling", refused)]), refused);
  });

  it("is a refused token before a page, and remains final", () => {
    const token = new DeviceError("TokenRefused", "the token has expired");
    const { code, retryable } = noWay([failure("websocket", portal), failure("longlived", token)]);
    assert.deepEqual([code, retryable], ["TokenRefused", false]);
  });

  it("says whether connections could be made where nothing answers", () => {
    assert.match(noWay([failure("tcp")]).message, /nothing comes back on them/);
    assert.match(noWay([{ ...failure("tcp"), stage: "started" }]).message, /no connection could be made/);
    const through = { ...failure("polling to edge:443 over TLS through http://proxy:3128"), stage: "started" } as const;
    assert.match(noWay([through]).message, /no connection came through the proxy: check its host, port and kind/);
    const direct = { ...failure("polling to edge:443 over TLS"), stage: "started" } as const;
    assert.match(noWay([through, direct]).message, /no connection could be made: .*; check the proxy, too/);
  });

  it("is retryable if another way only failed to connect", () => {
    const inClear = new DeviceError("TokenInClear", "the token would go unencrypted");
    const mixed = noWay([failure("tcp", inClear), failure("tls", refused)]);
    assert.deepEqual([mixed.code, mixed.retryable], ["TokenInClear", true]);
    assert.equal(
      noWay([failure("tcp", inClear), failure("tcp443", new DeviceError("TokenInClear", "so would it"))]).retryable,
      false,
    );
  });
});

/** How a scripted way behaves: whether it echoes, and what its Connect comes to. */
interface Scripted {
  readonly echoes?: boolean;
  readonly answer?: Promise<void>;
}

/** Climbs by ways that share no path, in order. */
function race(ways: Readonly<Record<string, Scripted>>, options: Partial<ClimbOptions> = {}) {
  let strays = 0;
  const opened: string[] = [];
  const never = new Promise<never>(() => undefined);
  const won = climb({
    runners: Object.keys(ways).map((id) => ({ id, path: id, echoes: true })),
    isFirstKnown: false,
    open: (id) => {
      opened.push(id);
      const { echoes = true, answer = Promise.resolve() } = ways[id] ?? {};
      return {
        establish: () => (echoes ? Promise.resolve() : never),
        connect: () => answer,
        ended: never,
        abandon: () => undefined,
      } as unknown as RelayConnection;
    },
    isForgeable: () => false,
    onFailed: (error) => error,
    onClosed: () => undefined,
    onStray: () => {
      strays += 1;
    },
    signal: new AbortController().signal,
    ...options,
  });
  return { won, opened, strays: () => strays };
}

const rejected = (code: DeviceError["code"]) => {
  const answer = Promise.reject(new DeviceError(code, `${code} by this way`));
  answer.catch(() => undefined);
  return answer;
};

describe("a race of ways", () => {
  it("is ended by a refusal", async () => {
    const { won, opened } = race({ tls: { answer: rejected("TokenRefused") }, other: {} });
    await assert.rejects(won, { code: "TokenRefused", message: "TokenRefused by this way" });
    assert.deepEqual(opened, ["tls"]);
  });

  it("goes on after a refusal that somebody in between could have written", async () => {
    const isForgeable = (id: string) => id === "plain";
    for (const code of ["TokenRefused", "Refused"] as const) {
      const { won } = race({ plain: { answer: rejected(code) }, tls: {} }, { isForgeable });
      assert.equal((await won).id, "tls");
    }
    const failed = race(
      { plain: { answer: rejected("TokenRefused") }, tls: { answer: rejected("NotAnEdge") } },
      {
        isForgeable,
      },
    );
    await assert.rejects(failed.won, { code: "TokenRefused", retryable: false, message: /tried: plain, tls/ });
  });

  it("tells of a Connect that was lost on its way, and not of one that was refused", async () => {
    const lost = race({ websocket: { answer: rejected("ConnectFailed") }, longlived: {} });
    assert.equal((await lost.won).id, "longlived");
    assert.equal(lost.strays(), 1);
    const refused = race({ websocket: { answer: rejected("RelayRefused") } });
    await assert.rejects(refused.won, { code: "RelayRefused" });
    assert.equal(refused.strays(), 0);
  });
});
