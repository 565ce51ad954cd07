/**
 * Two sites behind firewalls that let nothing in: NAT at both, and only connections to the web out. Messages and files
 * meet at the edge.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { squid, squidPassword, USERINFO } from "./boxes.ts";
import { curl } from "./curl.ts";
import type { Batch, Tally } from "./exchange.ts";
import { COMMAND, Internet, type Network } from "./internet.ts";
import { NEEDS, whyNot } from "./needs.ts";
import type { ConnectArgument, Connected } from "./peer.ts";

/** Messages each way. */
const BATCH: Batch = { batch: 1, count: 200, bytes: 1000 };

/** A file that does not fit in one message. */
const FILE_BYTES = 20 * 1024 * 1024;

/** In milliseconds, on a machine that does other things as well. */
const PATIENCE = 60_000;

/** Only connections from inside to 443 pass, with the router's own address; whatever else comes in is dropped. */
function natOnly443(net: Network): void {
  net.letOut();
  net.filter(`chain through {
type filter hook forward priority 0; policy drop;
ct state established,related accept
iifname "inside" tcp dport 443 accept
}
chain into {
type filter hook input priority 0; policy drop;
iifname "inside" accept
ct state established,related accept
}
chain addresses {
type nat hook postrouting priority 100;
oifname "outside" masquerade
}`);
}

/** What listens at a site, for whoever gets in. */
const LISTENER =
  'require("node:http").createServer((_, answer) => answer.end()).listen(443, "::", () => console.log("up"))';

const SITES = [
  { what: "that only let connections to 443 out", build: natOnly443, proxy: undefined },
  {
    what: "whose only way out is a proxy with a password",
    build: (net: Network) => squid(net, ...squidPassword(net, "basic")),
    proxy: (net: Network) => `http://${USERINFO}@${net.inside.ipv4}:3128`,
  },
] as const;

for (const { what, build, proxy } of SITES) {
  const skip = whyNot([NEEDS.nft, NEEDS.squid], false);
  describe(`two sites ${what}`, { skip }, () => {
    let internet: Internet;
    let home: Network;
    let office: Network;
    before(async () => {
      internet = new Internet();
      await internet.edge("https");
      [home, office] = [internet.network(), internet.network()];
      for (const net of [home, office]) await build(net);
    });
    after(() => internet.close());

    it("are reached neither by the internet nor by each other", async () => {
      await home.site.start([process.execPath, "-e", LISTENER]).line(/up/);
      const atHome = `http://${home.address.ipv4}:443/`;
      assert.equal(curl(internet, home.router, atHome), 200);
      for (const machine of [internet.machine, office.site]) {
        assert.ok(["lost", "refused"].includes(String(curl(internet, machine, atHome))));
      }
    });

    it("exchange messages", { timeout: 4 * PATIENCE }, async () => {
      const ends = [
        { net: home, own: "alice/home", other: "bob/office" },
        { net: office, own: "bob/office", other: "alice/home" },
      ];
      for (const { net, own } of ends) {
        const way = { edge: "https://edge.test", ca: internet.certificates.ca, ...(proxy && { proxy: proxy(net) }) };
        const argument: ConnectArgument = { options: { address: own, ...way }, patience: PATIENCE };
        const result = await net.near.call<Connected>("connect", argument);
        assert.ok("connected" in result, JSON.stringify(result));
      }
      const tallies = await Promise.all(
        ends.map(async ({ net, own, other }) => {
          const sent = net.near.call("send", { from: own, to: other, batch: BATCH });
          const tally = await net.near.call<Tally>("arrived", { at: own, batch: BATCH, patience: PATIENCE });
          await sent;
          return tally;
        }),
      );
      const all = { arrived: BATCH.count, doubled: 0, wrong: 0 };
      assert.deepEqual(tallies, [all, all]);
      for (const { net, own } of ends) await net.near.call("close", { address: own });
    });

    it("exchange files", { timeout: 4 * PATIENCE }, async () => {
      const ends = [
        { net: home, to: office, own: "carol/home", other: "dave/office", file: "from-home.bin" },
        { net: office, to: home, own: "dave/office", other: "carol/home", file: "from-office.bin" },
      ];
      const grooveway = (net: Network, own: string, command: string, ...args: readonly string[]) => {
        const way = ["--edge", "https://edge.test", "--ca", join(internet.folder, "ca.pem"), "--as", own];
        const through = proxy === undefined ? [] : ["--proxy", proxy(net)];
        const env = { GROOVEWAY_STATE: join(internet.folder, `state-${net.number}-${command}`) };
        return net.site.start([process.execPath, COMMAND, command, ...way, ...through, ...args], { env });
      };
      const receiving = ends.map(async ({ net, own }) => {
        const { process } = grooveway(net, own, "recv", "--out", join(internet.folder, `inbox-${net.number}`));
        return once(process, "exit");
      });
      const sending = ends.map(async ({ net, own, other, file }) => {
        const path = join(internet.folder, file);
        writeFileSync(path, randomBytes(FILE_BYTES));
        const { process } = grooveway(net, `${own}-sender`, "send", other, path);
        return once(process, "exit");
      });
      const codes = (await Promise.all([...sending, ...receiving])).map(([code]) => code);
      assert.deepEqual(codes, [0, 0, 0, 0]);
      const hash = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
      for (const { to, file } of ends) {
        const arrived = join(internet.folder, `inbox-${to.number}`, file);
        assert.equal(hash(arrived), hash(join(internet.folder, file)));
      }
    });
  });
}
