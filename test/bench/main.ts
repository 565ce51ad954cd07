/**
 * The bench: what the product does, each figure beside its floor or a peer measured in the same run.
 *
 *   npm run bench -- [--quick] [--only codec,throughput,latency,mailbox,mailboxes,link,suspended,memory,devices,files,streams,malice,networks] [--json FILE]
 *       [--rows PATTERN]    of streams: only rows whose names match
 */
import { readFileSync, writeFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { availableParallelism, cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { codec } from "./codec.ts";
import { devices } from "./devices.ts";
import { files } from "./files.ts";
import { latency } from "./latency.ts";
import { link } from "./link.ts";
import { mailbox } from "./mailbox.ts";
import { mailboxes } from "./mailboxes.ts";
import { malice } from "./malice.ts";
import { memory } from "./memory.ts";
import { networks } from "./networks.ts";
import { print, type Section } from "./report.ts";
import { streams } from "./streams.ts";
import { suspended } from "./suspended.ts";
import { throughput } from "./throughput.ts";

/** Yields sections, or resolves with them. Rows are those whose names match, where a bench can leave others out. */
type Bench = (quick: boolean, rows: RegExp) => Promise<Section | Section[]> | AsyncIterable<Section>;

const BENCHES: Readonly<Record<string, Bench>> = {
  codec,
  throughput,
  latency,
  mailbox,
  mailboxes,
  link,
  suspended,
  memory,
  devices,
  files,
  streams,
  malice,
  networks,
};

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    only: { type: "string" },
    quick: { type: "boolean", default: false },
    rows: { type: "string", default: "" },
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
};
console.log(
  `${machine.cores} cores (${machine.processor}), load ${machine.load.toFixed(2)}; node ${machine.node}, workerd ${machine.workerd}`,
);
console.log("workerd is not Cloudflare's edge; client, edge and far side share these cores.");
console.log("MB/s is 10^6 octets a second. Medians over rounds in turn (A B C A B C); ratios are within a round.");

const began = performance.now();
const sections: Section[] = [];
for (const name of names) {
  const measured = BENCHES[name]?.(values.quick, new RegExp(values.rows)) ?? Promise.resolve([]);
  for await (const section of measured instanceof Promise ? [await measured].flat() : measured) {
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
