/** The end of the command in a network that does not let it go. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { COMMAND, WITHOUT_PROXIES } from "../networks/internet.ts";
import { Namespaces, whyNoNamespaces } from "../support/namespaces.ts";

const SERVERS = ["10.203.0.1", "10.203.0.2", "10.203.0.3"];

/** With three silent servers, and the usual times, resolving a name takes half a minute. The command gives up after 6 s. */
const AFTER_ERROR = 10_000;

const skip = whyNoNamespaces() ?? false;

test("the command ends with its error, also while DNS servers are silent", { skip }, async (t) => {
  const namespaces = new Namespaces();
  t.after(() => namespaces.close());
  const machine = namespaces.add("d");
  for (const server of SERVERS) machine.ip("address", "add", `${server}/32`, "dev", "lo");
  machine.setting("resolv.conf", SERVERS.map((server) => `nameserver ${server}\n`).join(""));
  const silent = 'require("dgram").createSocket("udp4").bind(53, () => console.log("bound"))';
  await machine.start([process.execPath, "--eval", silent]).line(/bound/);
  const args = ["recv", "--edge", "https://edge.example.com", "--as", "alice/laptop"];
  const command = machine.start([...WITHOUT_PROXIES, process.execPath, COMMAND, ...args], {
    all: true,
    env: { RES_OPTIONS: "timeout:5 attempts:2" },
  });
  const exit = once(command.process, "exit");
  await command.line(/\[ConnectFailed\]/);
  const [status] = await Promise.race([exit, sleep(AFTER_ERROR, ["still there"], { ref: false })]);
  assert.equal(status, 3);
});
