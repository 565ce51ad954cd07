/** Devices whose token lacks the scope for a stream, or for an answer. */
import assert from "node:assert/strict";
import { before, describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { type Device, type DeviceError, type DeviceOptions, MemoryKeyring } from "../../src/device/index.ts";
import { publicKeyOf } from "../../src/streams/index.ts";
import { hs256, type Issuer, jwks } from "../edge/issuer.ts";
import { afterAll, connect, startEdge } from "../edge/mailbox/support.ts";
import { soon } from "../support/watch.ts";

let edge: LocalEdge;
let issuer: Issuer;
const all = afterAll();
before(async () => {
  issuer = await hs256();
  edge = await startEdge(all, { keys: jwks(issuer) });
});

async function device(
  t: TestContext,
  address: string,
  scope: string,
  options: Partial<DeviceOptions> = {},
): Promise<Device> {
  const token = await issuer.issue({ address: "*", scope });
  const made = await connect(edge, address, "websocket", { token, ...options });
  t.after(() => made.close());
  return made;
}

/** Resolves with the first device that cannot be answered, and why. */
function unanswered() {
  const { promise, resolve } = Promise.withResolvers<string>();
  const onUnanswered = (address: string, { code, message }: DeviceError) => resolve(`${address} ${code} ${message}`);
  return { onUnanswered, first: () => soon(promise, "a device that cannot be answered") };
}

describe("a token without the scope", () => {
  it("stream: of the device that is dialed is named to the device that dials", async (t) => {
    const [keyring, receive] = [new MemoryKeyring(), "streams"] as const;
    const alice = await device(t, "alice/dials", "connect receive send:*", { keyring, receive });
    await assert.rejects(alice.dial("office/desk", "echo"), ({ code, message }: DeviceError) => {
      assert.equal(code, "RecipientRefused");
      assert.match(
        message,
        /^the token lacks the scope stream:office\/desk: .* 'connect receive send:\* stream:office/,
      );
      return true;
    });
  });

  it("stream: of the device that dials is named to the device that is dialed", async (t) => {
    const [own, other, receive] = [new MemoryKeyring(), new MemoryKeyring(), "streams"] as const;
    const { onUnanswered, first } = unanswered();
    const office = await device(t, "office/dialed", "connect receive send:*", { keyring: own, receive, onUnanswered });
    const alice = await device(t, "alice/known", "connect receive stream:*", { keyring: other, receive });
    own.accept(alice.address, publicKeyOf(other.secretKey));
    office.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const ending = new AbortController();
    const dialing = assert.rejects(alice.dial(office.address, "echo", { signal: ending.signal }));
    assert.match(await first(), /^alice\/known RecipientRefused the token lacks the scope stream:alice\/known: /);
    ending.abort();
    await dialing;
  });

  it("send: of the caller is named to the device that serves the request", async (t) => {
    const { onUnanswered, first } = unanswered();
    const bob = await device(t, "bob/serves", "connect receive", { onUnanswered });
    const alice = await device(t, "alice/calls", "connect receive send:*");
    bob.respond("api", () => ({ body: "never seen" }));
    const asked = assert.rejects(alice.request(bob.address, "api", { deadline: 5000 }));
    assert.match(await first(), /^alice\/calls RecipientRefused the token lacks the scope send:alice\/calls: /);
    await alice.close();
    await asked;
  });
});
