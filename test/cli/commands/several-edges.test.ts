/** `send` and `recv` with several edges. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { listen } from "../../support/sockets.ts";
import { folder, run, runHere } from "../support.ts";

describe("several edges", () => {
  let edge: LocalEdge;
  before(async () => {
    edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "open" });
  });
  after(() => edge.close());

  it("a file goes by the second while the first cannot be reached", async (context) => {
    const server = await listen((socket) => socket.destroy());
    context.after(() => server.close());
    const edges = ["--edge", `http://127.0.0.1:${server.port}`, "--edge", edge.url];
    const place = await folder(context);
    writeFileSync(join(place, "report.pdf"), "the report");
    const sent = await run(context, ["send", ...edges, "--as", "alice/pc", "bob/laptop", join(place, "report.pdf")]);
    assert.equal(sent.code, 0, sent.stderr);
    const out = join(place, "inbox");
    const received = await run(context, ["recv", ...edges, "--as", "bob/laptop", "--out", out]);
    assert.equal(received.code, 0, received.stderr);
    assert.equal(readFileSync(join(out, "report.pdf"), "utf8"), "the report");
  });

  it("cannot be used for a relay, nor be more than four", async () => {
    const five = ["a", "b", "c", "d", "e"].flatMap((name) => ["--edge", `https://${name}.example`]);
    const many = await runHere(["recv", ...five, "--as", "bob/laptop"]);
    assert.deepEqual([many.code, many.stderr], [2, "grooveway: there are 5 edges: name at most 4 [InvalidOption]\n"]);
    const relayed = await runHere(["recv", ...five.slice(0, 4), "--relay", "r.example", "--as", "bob/laptop"]);
    assert.equal(relayed.code, 2);
    assert.match(relayed.stderr, /cannot be used through several edges: name one edge, or leave out the relay/);
  });
});
