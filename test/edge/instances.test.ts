/** Programs of one device that are connected at the same time: instances, with the rights and the key of the device. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { type Device, MemoryKeyring, publicKeyOf } from "../../src/device/index.ts";
import { EMPTY_TIME } from "../../src/edge/mailbox/limits.ts";
import { newInstance } from "../../src/sstp/index.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { objectOf } from "../support/objects.ts";
import { drivenWorker } from "../support/worker.ts";
import { ed25519 } from "./issuer.ts";
import { afterAll, until } from "./mailbox/support.ts";
import { deviceAt, issued, startAsking } from "./operator.ts";

interface DrivenMailbox {
  status(): Promise<{ readonly consumer: string | undefined }>;
  letPass(milliseconds: number): Promise<void>;
  left(): Promise<{ readonly tables: number }>;
}

const issuer = await ed25519();
const code = await drivenWorker();

describe("instances of a device", () => {
  let edge: InspectedEdge;
  const context = afterAll();
  before(async () => {
    edge = await startAsking({ code, keys: JSON.stringify({ keys: [issuer.jwk] }) });
    context.after(() => edge.close());
  });

  it("stream beside it and each other, by a token and a key that are for the device", async (t) => {
    const [own, others] = [new MemoryKeyring(), new MemoryKeyring()];
    others.accept("alice/laptop", publicKeyOf(own.secretKey));
    const common = { transport: "websocket", receive: "streams" } as const;
    const scope = { office: "connect receive stream:alice/laptop", alice: "connect receive stream:office/desk" };
    const exposed = await issued(issuer, { address: "office/desk", scope: scope.office });
    const serving = await deviceAt(t, edge, { ...common, address: "office/desk", keyring: others, token: exposed });
    serving.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const token = await issued(issuer, { address: "alice/laptop", scope: scope.alice });
    const instances = [newInstance("laptop"), newInstance("laptop")];
    const dialing = await Promise.all(
      ["laptop", ...instances].map((name) =>
        deviceAt(t, edge, { ...common, address: `alice/${name}`, keyring: own, token }),
      ),
    );
    const streams = await Promise.all(dialing.map((device: Device) => device.dial("office/desk", "echo")));
    for (const [at, { readable, writable }] of streams.entries()) {
      await writable.getWriter().write(Buffer.from(`stream ${at}`));
      const { value } = await readable.getReader().read();
      assert.equal(Buffer.from(value ?? []).toString(), `stream ${at}`);
    }
    for (const device of dialing) await device.close();
    for (const name of instances) {
      const mailbox = await objectOf<DrivenMailbox>(edge.miniflare, "MAILBOX", `grooveDevice://alice/${name}`);
      await until("nobody consumes its mailbox", async () => (await mailbox.status()).consumer === undefined);
      await mailbox.letPass(EMPTY_TIME);
      assert.deepEqual((await mailbox.left()).tables, 0, "its mailbox stays");
    }
  });

  it("of another device are refused", async (t) => {
    const token = await issued(issuer, { address: "bob/laptop", scope: "connect receive" });
    for (const name of [newInstance("phone"), `${newInstance("laptop")}x`, "laptop~other"]) {
      await assert.rejects(deviceAt(t, edge, { address: `bob/${name}`, token }), { code: "TokenRefused" });
    }
  });
});
