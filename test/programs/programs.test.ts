/**
 * Programs that everybody has use services of another site through streams: with nothing in the way, and where the only
 * requests that get through are those of polling. Each says by digest or exit code that it got what it wanted.
 *
 * They run with `GROOVEWAY_PROGRAMS=1`, as root on Linux.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { scripted } from "../networks/boxes.ts";
import type { Network } from "../networks/internet.ts";
import { PROGRAMS, whyNot } from "./needs.ts";
import { Sites, type Way } from "./sites.ts";

interface Place extends Way {
  readonly what: string;
  /** The only transports that get through; undefined if all do. */
  readonly only?: readonly string[];
}

const PLACES: readonly Place[] = [
  { what: "on an open network", scheme: "https", build: (net: Network) => net.letOut() },
  {
    what: "where only polling is allowed",
    scheme: "http",
    build: (net) => scripted(net, "only-root"),
    only: ["polling"],
  },
];

/** Milliseconds that a test may take. */
const timeout = 360_000;

it(".ci/run installs the programs", () => {
  const script = readFileSync(new URL("../../.ci/run", import.meta.url), "utf8");
  for (const need of Object.values(PROGRAMS)) assert.match(script, new RegExp(`[ "]${need.package}[ "]`));
});

for (const place of PLACES) {
  const { ssh, sshd, rsync, postgres, git, curl, h2load, netcat, nginx, socat } = PROGRAMS;
  describe(`programs ${place.what}`, { skip: whyNot() }, () => {
    let sites: Sites;
    before(async () => {
      sites = new Sites();
      await sites.open(place);
    });
    after(() => sites.close());

    it("ssh runs a command, and learns how it ended", { timeout, skip: whyNot(ssh, sshd) }, async () => {
      assert.equal(await sites.bash(`echo hello | $SSH office 'cat; exit 7' || echo "status $?"`), "hello\nstatus 7\n");
    });

    it("ssh goes through forward --stdio as its ProxyCommand", { timeout, skip: whyNot(ssh, sshd) }, async () => {
      const through = sites.stdio("alice/stdio", "ssh");
      await sites.bash(`head -c 3M /dev/urandom > piece
        $SSH -o ProxyCommand='${through}' office cat < piece | cmp - piece`);
    });

    it("scp copies 100 MiB there, and a tenth of it back", { timeout, skip: whyNot(ssh, sshd) }, async () => {
      await sites.bash(`head -c 100M /dev/urandom > big
        scp -q \${SSH#ssh} big office:${sites.office}/big
        cmp big ${sites.office}/big
        head -c 10M big > ${sites.office}/tenth
        scp -q \${SSH#ssh} office:${sites.office}/tenth back
        cmp ${sites.office}/tenth back`);
    });

    it("rsync copies a folder, and then what has changed", { timeout, skip: whyNot(ssh, sshd, rsync) }, async () => {
      await sites.bash(`mkdir tree
        for i in {1..300}; do head -c $((RANDOM * 3)) /dev/urandom > tree/$i; done
        rsync -a -e "$SSH" tree/ office:${sites.office}/tree/
        diff -r tree ${sites.office}/tree
        for i in {1..99}; do echo changed >> tree/$i; rm tree/$((i + 100)); done
        rsync -a --delete --checksum -e "$SSH" tree/ office:${sites.office}/tree/
        diff -r tree ${sites.office}/tree`);
    });

    it("git clones over ssh, and pushes", { timeout, skip: whyNot(ssh, sshd, git) }, async () => {
      const commit = "git add . && git -c user.name=Alice -c user.email=alice@test commit -qm";
      await sites.inOffice(`git init -qb main repo && cd repo
        for i in {1..16}; do head -c 1M /dev/urandom > $i && ${commit} $i; done`);
      await sites.bash(`git clone -q ssh://office${sites.office}/repo clone && cd clone
        git fsck --full
        test "$(git rev-parse HEAD)" = "$(git -C ${sites.office}/repo rev-parse HEAD)"
        diff -r --exclude .git . ${sites.office}/repo
        head -c 1M /dev/urandom > more && ${commit} more
        git push -q origin HEAD:refs/heads/more
        test "$(git rev-parse HEAD)" = "$(git -C ${sites.office}/repo rev-parse more)"`);
    });

    it("psql reads half a million rows, and sends a query of megabytes", {
      timeout,
      skip: whyNot(postgres),
    }, async () => {
      const rows = "COPY (SELECT i, md5(i::text) FROM generate_series(1, 500000) AS i) TO STDOUT";
      const psql = "psql -X -v ON_ERROR_STOP=1 -U postgres";
      const [far, near] = await Promise.all([
        sites.bash(`${psql} -h 127.0.0.1 -c '${rows}' | sha256sum`),
        sites.inOffice(`${psql} -h ${sites.office} -c '${rows}' | sha256sum`),
      ]);
      assert.equal(far, near);
      const [answer = "", expected = ""] = (
        await sites.bash(`head -c 6M /dev/urandom | base64 -w 0 > text
          { printf "SELECT md5('"; cat text; printf "');"; } > query
          ${psql} -At -h 127.0.0.1 -f query
          md5sum < text`)
      ).split("\n");
      assert.equal(answer, expected.split(" ")[0]);
    });

    it("curl gets ten files by one connection of HTTP/1.1", { timeout, skip: whyNot(curl, nginx) }, async () => {
      const connections = await sites.bash(`curl -sS --fail --http1.1 -w '%{num_connects} ' -o 'blob#1' \\
          'http://127.0.0.1:8080/blob?[1-10]'
        for i in {1..10}; do cmp blob$i ${sites.office}/web/blob; done`);
      assert.equal(connections, `1 ${"0 ".repeat(9)}`);
    });

    it("h2load gets 2,000 pages by HTTP/2, 128 at a time", { timeout, skip: whyNot(h2load, nginx) }, async () => {
      const report = await sites.bash("h2load -n 2000 -c 4 -m 32 http://127.0.0.1:8081/page");
      assert.match(report, /^requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored/m);
      assert.match(report, /^status codes: 2000 2xx/m);
      assert.match(report, /\(32768000\) data$/m);
    });

    it("a WebSocket carries a thousand messages both ways", { timeout }, async () => {
      const talk = fileURLToPath(new URL("websocket-talk.ts", import.meta.url));
      const said = await sites.bash(
        `'${process.execPath}' --disable-warning=ExperimentalWarning ${talk} ws://127.0.0.1:8082`,
      );
      assert.equal(said, "1000 of 1000 messages came back, closed by 1000\n");
    });

    it("curl reaches by SOCKS what the office lists, by the name that it has there, and nothing else", {
      timeout,
      skip: whyNot(curl, nginx),
    }, async () => {
      const socks = "curl -sS --fail --socks5-hostname 127.0.0.1:1080";
      await sites.bash(`${socks} http://site.test:8080/blob | cmp - ${sites.office}/web/blob`);
      const refused = await sites.bash(`${socks} http://site.test:22/ 2>&1 || echo "status $?"`);
      assert.match(refused, /status 97\n$/);
    });

    it("dd into nc half-closes, and gets the answer", { timeout, skip: whyNot(netcat, socat) }, async () => {
      const [answer, expected] = (
        await sites.bash(`dd if=/dev/urandom bs=1M count=32 status=none | tee sent | nc.openbsd -N 127.0.0.1 7000
          sha256sum < sent`)
      ).split("\n");
      assert.equal(answer, expected);
    });

    it("all of that went by what gets through", (t) => {
      const { transports } = sites;
      t.diagnostic(`home by ${transports[0]}, office by ${transports[1]}`);
      for (const used of transports) {
        assert.ok(used.length > 0);
        if (place.only !== undefined) assert.deepEqual([...new Set(used)], place.only);
      }
    });
  });
}
