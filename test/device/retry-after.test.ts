/** A busy proxy sends Retry-After without an edge's reason. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { DeviceError } from "../../src/device/device-error.ts";
import { closure } from "../../src/device/relay-connection.ts";
import { openTransport } from "../../src/device/transports/open-transport.ts";
import type { TransportName } from "../../src/device/transports/transport.ts";

async function busyProxy(context: TestContext, headers: Record<string, string>): Promise<string> {
  const server = createServer((_, response) => response.writeHead(429, headers).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/groove`;
}

const TRANSPORTS: readonly TransportName[] = ["websocket", "longlived", "keepalive", "polling"];

test("every transport honours Retry-After from a proxy, in seconds and as a date", async (context) => {
  const dates = { Date: "Fri, 31 Dec 1999 22:59:59 GMT", "Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT" };
  for (const headers of [{ "Retry-After": "3600" }, dates]) {
    const edge = await busyProxy(context, headers);
    for (const transport of TRANSPORTS) {
      const opened = openTransport({ transport, relay: "edge.example.com", edge });
      await assert.rejects(opened.established, (error) => {
        assert.ok(error instanceof DeviceError, transport);
        assert.deepEqual([error.retryable, error.retryAfter], [true, 3600], transport);
        return true;
      });
      while ((await opened.read()) !== undefined);
      assert.equal(closure({ by: "transport" } as never, opened).retryAfter, 3600, transport);
    }
  }
});
