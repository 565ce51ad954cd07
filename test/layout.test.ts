/** Which folder may import which: the arrows of src/README.md. The linter finds import cycles. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const SRC = fileURLToPath(new URL("../src", import.meta.url));

/** What the files of each folder may import besides each other. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  sstp: ["lib"],
  encapsulation: ["lib"],
  streams: ["lib"],
  "store-and-forward": ["sstp", "lib"],
  auth: ["sstp", "lib"],
  transfer: ["lib"],
  requests: ["lib"],
  relay: ["auth", "store-and-forward", "sstp", "streams", "lib"],
  device: ["auth", "store-and-forward", "encapsulation", "sstp", "streams", "requests", "lib"],
  "edge/policy": ["auth", "store-and-forward", "encapsulation", "sstp", "lib"],
  edge: ["auth", "store-and-forward", "encapsulation", "sstp", "streams", "requests", "lib"],
  cli: ["edge/policy", "device", "relay", "transfer", "auth", "store-and-forward", "sstp", "requests", "lib"],
};

/** Folders and files of the edge: each may import those listed for it, and nothing else. */
const EDGE = [
  ["local-worker.ts"],
  ["worker.ts"],
  ["status-page"],
  ["http", "tunnel", "link", "egress"],
  ["endpoint", "pumps", "inboxes"],
  ["mailbox", "plain-stream", "operator-sessions"],
  ["admission"],
  ["origin", "collector", "volatile"],
  ["env.ts", "disk-full.ts", "open-files.ts", "stopping.ts"],
  ["is-command.ts"],
  ["rpc"],
  ["log.ts", "problem.ts", "timing-safe-equal.ts"],
  ["policy", "durable-streams", "byte-channel.ts", "metrics"],
  ["reasons.ts"],
];

/** Folders without timers, sockets or files. */
const PURE = ["sstp", "encapsulation", "streams", "transfer", "requests", "edge/durable-streams", "edge/metrics"];

interface Import {
  readonly from: string;
  readonly to: string;
}

/** The imports of a folder's files, as paths within it, including types. */
function importsOf(folder: string): Import[] {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /\.tsx?$/.test(name));
  return files.flatMap((from) => {
    const text = readFileSync(join(folder, from), "utf8");
    const found = text.matchAll(/\b(?:from|import)\s*\(?\s*"(\.[^"]+)"/g);
    return [...found].map(([, path = ""]) => ({ from, to: normalize(join(dirname(from), path)) }));
  });
}

function roomOf(file: string): string {
  const [first = "", second = ""] = file.split("/");
  return first === "edge" && second === "policy" ? "edge/policy" : first;
}

/** Imports that follow no arrow. */
function astray(imports: readonly Import[]): Import[] {
  const levelOf = (file: string) => EDGE.findIndex((level) => level.includes(file.split("/")[1] ?? ""));
  return imports.filter(({ from, to }) => {
    const [here, there] = [roomOf(from), roomOf(to)];
    if (from.startsWith("edge/") && to.startsWith("edge/")) {
      const same = from.split("/")[1] === to.split("/")[1];
      return levelOf(from) < 0 || levelOf(to) < 0 || (!same && levelOf(from) >= levelOf(to));
    }
    if (PURE.some((room) => from.startsWith(`${room}/`)) && to.startsWith("lib/runtime/")) return true;
    if (to.startsWith("lib/node/")) return !["cli", "relay", "lib"].includes(here);
    return here !== there && ROOMS[here]?.includes(there) !== true;
  });
}

describe("layout", () => {
  it("files import only along the arrows", () => {
    assert.deepEqual(astray(importsOf(SRC)), []);
  });

  for (const [what, from, to] of [
    ["an import of the edge in the protocol", "sstp/wire.ts", "edge/reasons.ts"],
    ["an import of timers in a pure folder", "encapsulation/target.ts", "lib/runtime/timeout.ts"],
    ["an import of Node files in the device", "device/device.ts", "lib/node/file-lock.ts"],
    ["an import of its callers in a mailbox", "edge/mailbox/mailbox.ts", "edge/tunnel/tunnel.ts"],
    ["an import of the pumps in an endpoint", "edge/endpoint/limits.ts", "edge/pumps/limits.ts"],
    ["an import of the edge beyond its settings in the command", "cli/main.ts", "edge/worker.ts"],
    ["a folder without a place", "edge/somewhere/new.ts", "edge/reasons.ts"],
  ] as const) {
    it(`detects ${what}`, () => {
      assert.deepEqual(astray([{ from, to }]), [{ from, to }]);
    });
  }
});

describe("the device", () => {
  /** What a file imports when it runs: imports of types alone leave nothing behind. */
  function loadedBy(file: string): string[] {
    const text = readFileSync(join(SRC, file), "utf8");
    const statements = text.matchAll(/^(?:import|export)\s(?!type\b)(?:[^;"]*?\sfrom\s+)?"([^"]+)"/gm);
    return [...statements].map(([, path = ""]) => (path.startsWith(".") ? normalize(join(dirname(file), path)) : path));
  }

  /** All files that are loaded with one, and the modules that are not ours. */
  function loadedWith(file: string): { readonly files: Set<string>; readonly modules: Set<string> } {
    const [files, modules] = [new Set([file]), new Set<string>()];
    for (const one of files) {
      for (const path of loadedBy(one)) {
        if (path.endsWith(".ts")) files.add(path);
        else modules.add(path);
      }
    }
    return { files, modules };
  }

  it("needs no Node and no module but its ciphers, but for what its entry for Node adds", () => {
    const { files, modules } = loadedWith("device/browser.ts");
    assert.ok(files.has("device/device.ts") && files.has("sstp/connection.ts") && files.has("streams/channel.ts"));
    assert.deepEqual(
      [...modules].filter((name) => !name.startsWith("@noble/")),
      [],
    );
    const needy = [...files].filter((file) =>
      /\b(?:Buffer|NodeJS|process)\.[A-Za-z]/.test(readFileSync(join(SRC, file), "utf8")),
    );
    assert.deepEqual(needy, []);
  });

  it("for Node needs it, which would be found", () => {
    assert.ok(loadedWith("device/node-device.ts").modules.has("node:net"));
  });
});

describe("src/README.md", () => {
  const text = readFileSync(join(SRC, "README.md"), "utf8");

  it("names only files that exist", () => {
    const named = [...text.matchAll(/`([\w/-]+\.ts)`/g)].map(([, name = ""]) => name);
    assert.ok(named.length > 10);
    for (const name of named) {
      const path = name.startsWith("test/") ? join(SRC, "..", name) : join(SRC, name);
      assert.ok(existsSync(path), name);
    }
  });

  it("has a line for each folder", () => {
    const folders = (path: string) =>
      readdirSync(path, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name);
    for (const room of folders(SRC)) assert.match(text, new RegExp(`^${room}/ +\\S`, "m"));
    for (const room of ["cli", "edge"]) {
      for (const name of folders(join(SRC, room))) assert.match(text, new RegExp(`^ {2}${name}/ +\\S`, "m"));
    }
  });
});
