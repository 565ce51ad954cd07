/** Dialling over lossy links between kernel namespaces, and reports of links that lose large packets. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { DialOptions } from "../../../src/device/transports/dial.ts";
import { type Program, RoutedNetwork, SERVER, whyNoNamespaces } from "../../support/namespaces.ts";

const why = whyNoNamespaces();
const skip = why ?? false;

function program(name: string): URL {
  return new URL(`programs/${name}.ts`, import.meta.url);
}

async function withServer(t: TestContext): Promise<RoutedNetwork> {
  const network = new RoutedNetwork(t);
  await network.inServer(program("acceptor")).line(/listening/);
  return network;
}

function dialling(network: RoutedNetwork, addresses: readonly string[], options: Partial<DialOptions> = {}): Program {
  return network.inClient(program("dial-some"), JSON.stringify({ addresses, ...options }));
}

/** The connected address, and after how many milliseconds. */
async function connected(dialled: Program): Promise<{ address: string; after: number }> {
  const line = await dialled.line(/^connected|Error/);
  const [, address = line, after] = /^connected to (\S+) after (\d+) ms/.exec(line) ?? [];
  return { address, after: Number(after) };
}

describe("dialling over a lossy network", { skip }, () => {
  it("falls back to IPv4 soon after 250 ms when all IPv6 packets are lost", async (t) => {
    const network = await withServer(t);
    network.lose(SERVER.ipv6);
    const { address, after } = await connected(dialling(network, [SERVER.ipv6, SERVER.first]));
    assert.equal(address, SERVER.first);
    assert.ok(after >= 240, `after ${after} ms`);
  });

  it("connects when the first SYN is lost and the other address is unreachable", async (t) => {
    const network = await withServer(t);
    network.lose(SERVER.first);
    const dialled = dialling(network, [SERVER.first, "2001:db8::9"]);
    await dialled.line(/dialling/);
    // A SYN is retransmitted after a second.
    await sleep(600);
    network.find(SERVER.first);
    const { address, after } = await connected(dialled);
    assert.equal(address, SERVER.first);
    assert.ok(after > 600, `after ${after} ms`);
  });

  it("reports the result of each address", async (t) => {
    const network = await withServer(t);
    for (const address of [SERVER.ipv6, SERVER.second]) network.lose(address);
    const dialled = dialling(network, [SERVER.ipv6, SERVER.second, "10.202.9.9"], { timeout: 1000 });
    assert.match(
      await dialled.line(/Error/),
      /^DeviceError: connect to edge\.example\.com failed: \[fd00:202:2::2\]:2492 ETIMEDOUT, 10\.202\.2\.3:2492 ETIMEDOUT, 10\.202\.9\.9:2492 \w+; nothing answered: /,
    );
  });
});

describe("a path MTU black hole", { skip }, () => {
  const small = "sent small";

  it("is reported once two connections have stalled", async (t) => {
    const network = new RoutedNetwork(t);
    await network.inServer(program("fast-relay"), SERVER.first).line(/listening/);
    network.narrow(1000);
    const device = network.inClient(program("large-message"), JSON.stringify({ relay: SERVER.first }), "65536");
    await device.line(/\[PathMtuBlackHole\]/);
    assert.equal(device.lines[0], small);
    assert.match(device.lines[1] ?? "", /^lost: .*\[ConnectFailed\]$/);
    assert.match(
      device.lines[2] ?? "",
      /^lost: large packets are lost in transit \(a path MTU black hole\): on 2 connections .*; lower the MTU of .* \[PathMtuBlackHole\]$/,
    );
    assert.equal(device.lines.length, 3);
  });

  it("is reported when a TLS handshake stalls", async (t) => {
    const network = new RoutedNetwork(t);
    await network.inServer(program("tls-acceptor")).line(/listening/);
    const options = { secure: true, timeout: 2_000 };
    assert.match(
      await dialling(network, [SERVER.first], options).line(/Error/),
      /certificate is from "test authority"/,
    );
    network.narrow(700);
    assert.match(
      await dialling(network, [SERVER.first], options).line(/Error/),
      /^DeviceError: TLS with \S+ did not finish .*, although TCP connected; .* large packets are lost: lower the MTU /,
    );
  });

  it("is not reported when large packets pass", async (t) => {
    const network = new RoutedNetwork(t);
    await network.inServer(program("fast-relay"), SERVER.first).line(/listening/);
    const device = network.inClient(program("large-message"), JSON.stringify({ relay: SERVER.first }), "65536");
    await device.line(/sent large/);
    assert.deepEqual(device.lines, [small, "sent large"]);
  });
});
