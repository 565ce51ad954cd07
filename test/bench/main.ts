/**
 * The bench: what the product does, each figure beside its floor or a peer measured in the same run.
 *
 *   npm run bench -- [--quick] [--only codec,throughput,latency,mailbox,link,suspended,memory,files,malice,networks] [--json FILE]
 */
import { readFileSync, writeFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { availableParallelism, cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { codec } from "./codec.ts";
import { files } from "./files.ts";
import { latency } from "./latency.ts";
import { link } from "./link.ts";
import { mailbox } from "./mailbox.ts";
import { malice } from "./malice.ts";
import { memory } from "./memory.ts";
import { networks } from "./networks.ts";
import { print, type Section } from "./report.ts";
import { suspended } from "./suspended.ts";
import { throughput } from "./throughput.ts";

const BENCHES: Readonly<Record<string, (quick: boolean) => Promise<Section | Section[]>>> = {
  codec,
  throughput,
  latency,
  mailbox,
  link,
  suspended,
  memory,
  files,
  malice,
  networks,
};

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    only: { type: "string" },
    quick: { type: "boolean", default: false },
  },
});
const names = values.only?.split(",") ?? Object.keys(BENCHES);
for (const name of names) {
  if (BENCHES[name] === undefined) {
    console.error(`bench: ${name} is none of ${Object.keys(BENCHES).join(", ")}`);
    process.exit(2);
  }
}

const machine = {
  cores: availableParallelism(),
  processor: cpus()[0]?.model ?? "unknown",
  load: loadavg()[0] ?? 0,
  node: process.version,
  workerd: versionOf("workerd"),
  miniflare: versionOf("miniflare"),
};
console.log(
  `${machine.cores} cores (${machine.processor}), load ${machine.load.toFixed(2)}; node ${machine.node}, workerd ${machine.workerd}, miniflare ${machine.miniflare}`,
);
console.log("workerd through miniflare is not Cloudflare's edge; client, edge and far side share these cores.");
console.log("MB/s is 10^6 octets a second. Medians over rounds in turn (A B C A B C); ratios are within a round.");

const began = performance.now();
const sections: Section[] = [];
for (const name of names) {
  const measured = await BENCHES[name]?.(values.quick);
  for (const section of measured === undefined ? [] : [measured].flat()) {
    sections.push(section);
    print(section);
  }
}
const seconds = Math.round((performance.now() - began) / 1000);
console.log(`\n${seconds} s`);
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ machine, quick: values.quick, seconds, sections }, undefined, 2)}\n`);
}
// Sockets that a peer keeps open must not keep the bench running.
process.exit(0);

function versionOf(name: string): string {
  const manifest = findPackageJSON(name, import.meta.url);
  return manifest === undefined ? "unknown" : JSON.parse(readFileSync(manifest, "utf8")).version;
}
