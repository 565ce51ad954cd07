/** The README's tables of codes match the source. `UPDATE=1` writes them. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { EXIT_CODES } from "../src/cli/exit-codes.ts";
import { ENVIRONMENT } from "../src/cli/help.ts";
import { DEVICE_ERRORS } from "../src/device/device-error.ts";
import { FINDINGS, REASONS } from "../src/edge/reasons.ts";
import { DROPS } from "../src/store-and-forward/drop-reasons.ts";
import { adviceOf } from "../src/store-and-forward/reason-advice.ts";
import { SET_ASIDE } from "../src/transfer/index.ts";

const FILE = new URL("../README.md", import.meta.url);

const reasons = [
  "| code | status | cause | cure | a device |\n|---|---|---|---|---|",
  ...Object.entries(REASONS).map(
    ([code, { status, cause, cure }]) => `| \`${code}\` | ${status ?? "–"} | ${cause} | ${cure} | ${adviceOf(code)} |`,
  ),
].join("\n");

/** What a finding means for `grooveway edge`, and for a deployed edge. */
const EFFECTS = {
  nothing: "starts | serves",
  start: "does not start | serves, and logs it",
  service: "does not start | serves no request, and logs it",
} as const;

const findings = [
  "| code | settings | `grooveway edge` | a deployed edge |\n|---|---|---|---|",
  ...Object.entries(FINDINGS).map(
    ([code, { settings, prevents }]) =>
      `| \`${code}\` | ${settings.map((name) => `\`${name}\``).join(", ")} | ${EFFECTS[prevents]} |`,
  ),
].join("\n");

const drops = [
  "| name | cause |\n|---|---|",
  ...Object.entries(DROPS).map(([name, cause]) => `| \`${name}\` | ${cause} |`),
].join("\n");

const setAside = [
  "| set aside as | because |\n|---|---|",
  ...Object.entries(SET_ASIDE).map(([name, why]) => `| \`${name}\` | ${why} |`),
].join("\n");

const exitCodes = [
  "| status | meaning | codes of errors |\n|---|---|---|",
  ...Object.values(EXIT_CODES).map(
    ({ status, meaning, errors }) => `| ${status} | ${meaning} | ${errors.map((code) => `\`${code}\``).join(", ")} |`,
  ),
].join("\n");

const environment = [
  "| variable | what it does |\n|---|---|",
  ...Object.entries(ENVIRONMENT).map(([name, text]) => `| \`${name}\` | ${text} |`),
].join("\n");

function put(text: string, name: string, table: string): string {
  return text.replace(
    new RegExp(`<!-- ${name} -->[^]*<!-- /${name} -->`),
    `<!-- ${name} -->\n${table}\n<!-- /${name} -->`,
  );
}

test("README lists every finding, reason, drop, set-aside reason, exit code and environment variable", async () => {
  const text = await readFile(FILE, "utf8");
  const tables = { reasons, findings, drops, "set-aside": setAside, "exit-codes": exitCodes, environment };
  const expected = Object.entries(tables).reduce((before, [name, table]) => put(before, name, table), text);
  if (process.env.UPDATE === "1") await writeFile(FILE, expected);
  // Not assert.equal, which would print the whole README twice.
  else assert.ok(text === expected, "the tables are out of date: UPDATE=1 node --test test/readme.test.ts writes them");
});

test("README explains every code of a device and of the command, once, and each has one exit status", async () => {
  const text = await readFile(FILE, "utf8");
  const [, section = ""] = text.split("### Codes of a device and of the command");
  const [table = ""] = section.split("\n#");
  const explained = [...table.matchAll(/^\| (`.*?`) \| /gm)].flatMap(([, names = ""]) =>
    names.split(", ").map((name) => name.slice(1, -1)),
  );
  const codes: string[] = Object.values(EXIT_CODES).flatMap(({ errors }) => [...errors]);
  assert.deepEqual(explained.sort(), codes.sort());
  assert.equal(new Set(codes).size, codes.length);
  for (const code of Object.keys(DEVICE_ERRORS)) assert.ok(codes.includes(code), code);
});
