/** An unresponsive directory: new mailboxes accept nothing, and nobody else is affected. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Device } from "../../../src/device/index.ts";
import { CloseReasonId } from "../../../src/sstp/index.ts";
import type { Directory, Mailbox } from "../../support/driven-worker.ts";
import { startDrivenEdge, type TestEdge } from "../support.ts";
import { type MailboxStub, RawClient, receive, until } from "./support.ts";

type DirectoryStub = Pick<Directory, "hang" | "list">;
type DrivenMailbox = MailboxStub & Pick<Mailbox, "left">;

describe("a message to a new mailbox while the directory is down", () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startDrivenEdge(0);
  });
  after(() => edge.close());

  const directory = async (): Promise<DirectoryStub> => {
    const namespace = await edge.edge.miniflare.getDurableObjectNamespace("DIRECTORY");
    return namespace.getByName("directory") as unknown as DirectoryStub;
  };
  const mailboxOf = async (peer: string): Promise<DrivenMailbox> => {
    const namespace = await edge.edge.miniflare.getDurableObjectNamespace("MAILBOX");
    return namespace.getByName(peer) as unknown as DrivenMailbox;
  };
  const connect = (address: string, lost: string[] = []) =>
    Device.connect({
      edge: edge.edge.url,
      address,
      transport: "websocket",
      onReconnect: (error) => lost.push(error.message),
    });

  it("is refused on its session only, and nothing of it is stored", async () => {
    const client = await RawClient.open(edge.edge, "websocket", "grooveDevice://alice/raw");
    const known = await client.session("r", "grooveIdentity://known", "grooveDevice://known/pc");
    client.send(known, "first");
    await client.event("acknowledged");
    await (await directory()).hang();
    const fresh = await client.session("r", "grooveIdentity://fresh", "grooveDevice://fresh/pc");
    const number = client.send(fresh, "to nobody known");
    const { reasonId, unacknowledged } = await client.event("sessionClosed", ({ sessionId }) => sessionId === fresh);
    assert.deepEqual([reasonId, unacknowledged], [CloseReasonId.InternalError, [number]]);
    const next = client.send(known, "second");
    await client.event("acknowledged", ({ messages }) => messages.includes(next));
    assert.equal(client.engine.closed, undefined);
    const mailbox = await mailboxOf("grooveDevice://fresh/pc");
    const { tables, alarm } = await mailbox.left();
    assert.deepEqual({ tables, alarm }, { tables: 0, alarm: false });
    assert.equal((await mailbox.status()).dropped.DirectoryUnavailable, 1);
    await (await directory()).hang(false);
    await until("the directory does not know it", async () => {
      return !(await (await directory()).list(undefined, 100)).includes("grooveDevice://fresh/pc");
    });
    client.close();
  });

  it("is resent by a device on the same connection until it is stored", async () => {
    const lost: string[] = [];
    const alice = await connect("alice/pc", lost);
    await (await directory()).hang();
    const sent = alice.send("later/pc", "hello");
    const mailbox = await mailboxOf("grooveDevice://later/pc");
    await until("it was refused", async () => (await mailbox.status()).dropped.DirectoryUnavailable > 0);
    await (await directory()).hang(false);
    await sent;
    assert.deepEqual(lost, []);
    const later = await connect("later/pc");
    assert.deepEqual(
      (await receive(later, 1)).map((one) => one.text()),
      ["hello"],
    );
    await Promise.all([alice.close(), later.close()]);
  });
});
