/** A refusal of the edge is told with what the edge advises. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { closure } from "../../src/device/relay-connection.ts";
import { openTransport } from "../../src/device/transports/open-transport.ts";
import { CURE_HEADER, DETAIL_HEADER, REASON_HEADER } from "../../src/encapsulation/index.ts";

for (const transport of ["websocket", "longlived", "keepalive", "polling"] as const) {
  test(`${transport}: the error of a refused or lost connection includes the edge's cure`, async (context) => {
    const headers = { [REASON_HEADER]: "ConnectionLost", [DETAIL_HEADER]: "It is gone.", [CURE_HEADER]: "Come again." };
    const server = createServer((_, response) => response.writeHead(404, headers).end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    context.after(() => {
      server.close();
      server.closeAllConnections();
    });
    const edge = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const opened = openTransport({ transport, relay: "edge.example.com", edge });
    const message = /: It is gone\. Come again\. \[ConnectionLost\]$/;
    await assert.rejects(opened.established, { message });
    assert.match(closure({ by: "transport" } as never, opened).message, message);
  });
}
