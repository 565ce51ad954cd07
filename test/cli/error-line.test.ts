/** What the command prints for an error, and its exit status. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CommandError } from "../../src/cli/command-error.ts";
import { errorLine, statusOf } from "../../src/cli/error-line.ts";
import { END_SIGNALS, EXIT_CODES, type ExitName, statusOfSignal } from "../../src/cli/exit-codes.ts";
import { interruption } from "../../src/cli/interrupt.ts";
import { DeviceError } from "../../src/device/device-error.ts";

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code, path, syscall: "open" });
}

test("an error prints one line with one code and exits with the status of its kind", () => {
  const table: readonly (readonly [unknown, RegExp, ExitName])[] = [
    [
      new CommandError("CannotRead", "there is no file x"),
      /^grooveway: there is no file x \[CannotRead\]$/,
      "CannotRead",
    ],
    [new DeviceError("ConnectFailed", "no way"), /^grooveway: no way \[ConnectFailed\]$/, "ConnectFailed"],
    [
      new DeviceError("TokenRefused", "it has expired [TokenExpired]"),
      /^\S+ it has expired \[TokenExpired\]$/,
      "Refused",
    ],
    [new CommandError("Refused", "not here [WrongPrefix]"), /\[WrongPrefix\]$/, "Refused"],
    [
      new CommandError("Refused", "two\nlines \x1b[2Kof a stranger"),
      /: two lines \\e\[2Kof a stranger \[Refused\]$/,
      "Refused",
    ],
    [interruption("SIGTERM"), /ended by SIGTERM before it was done \[Interrupted\]$/, "Terminated"],
    [
      systemError("ENOSPC", "/x"),
      /: open \/x \(ENOSPC\): the disk is full: free some space \[CannotWrite\]$/,
      "CannotWrite",
    ],
    [systemError("EROFS", "/x"), /read-only: choose another folder \[CannotWrite\]$/, "CannotWrite"],
    [systemError("EMFILE", "/x"), /ulimit -n 65536 \[TooManyOpenFiles\]$/, "Failed"],
    [
      new Error("Cannot find package 'ws' imported from /x"),
      /package ws is not installed: run npm ci.*\[NotInstalled\]$/,
      "Failed",
    ],
    [
      new Error('The package "@esbuild/linux-x64" could not be found, and is needed by esbuild.\n\nIf you'),
      /package @esbuild\/linux-x64 is not installed.*\[NotInstalled\]$/,
      "Failed",
    ],
    [
      Object.assign(new Error("spawn /x/workerd ENOENT"), {
        code: "ENOENT",
        syscall: "spawn /x/workerd",
        path: "/x/workerd",
      }),
      /: \/x\/workerd cannot be started \(ENOENT\): .*glibc.* \[EdgeFailed\]$/,
      "Failed",
    ],
    [
      new TypeError("x is undefined"),
      /: unexpected error \(x is undefined\): please report.*\[InternalError\]$/,
      "InternalError",
    ],
    [new Error(""), /\[InternalError\]$/, "InternalError"],
    [undefined, /\(undefined\).*\[InternalError\]$/, "InternalError"],
    ["thrown text", /\(thrown text\).*\[InternalError\]$/, "InternalError"],
  ];
  for (const [error, line, ending] of table) {
    assert.match(errorLine(error), line);
    assert.equal(errorLine(error).split("\n").length, 1);
    assert.equal(statusOf(error), EXIT_CODES[ending].status, errorLine(error));
  }
});

test("the stack is printed only with GROOVEWAY_DEBUG", (context) => {
  const before = process.env.GROOVEWAY_DEBUG;
  context.after(() => {
    if (before === undefined) delete process.env.GROOVEWAY_DEBUG;
    else process.env.GROOVEWAY_DEBUG = before;
  });
  const stack = /\n {4}at .*error-line\.test\.ts/;
  for (const [value, isShown] of [
    ["1", true],
    ["0", false],
    ["", false],
  ] as const) {
    process.env.GROOVEWAY_DEBUG = value;
    assert.equal(stack.test(errorLine(new Error("x"))), isShown, value);
  }
});

test("each status has one name and one meaning, and each error code has one status", () => {
  const endings = Object.values(EXIT_CODES);
  const statuses = endings.map(({ status }) => status);
  assert.deepEqual(
    statuses,
    [...new Set(statuses)].sort((a, b) => a - b),
  );
  const errors = endings.flatMap((ending) => [...ending.errors] as string[]);
  assert.equal(new Set(errors).size, errors.length);
  assert.deepEqual(END_SIGNALS.map(statusOfSignal), [129, 130, 131, 143]);
});

test("README lists each error code that has a status, with cause and cure", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const rows = readme.split("\n").filter((line) => /^\|([^|]+\|){3,5}$/.test(line));
  for (const { errors } of Object.values(EXIT_CODES)) {
    for (const code of errors) {
      const row = rows.find((line) => line.split("|")[1]?.includes(`\`${code}\``));
      assert.ok(row !== undefined, code);
    }
  }
});
