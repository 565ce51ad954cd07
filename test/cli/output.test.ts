/** What the command shows while it works. */
import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { progressBar, size } from "../../src/cli/output.ts";

/** A terminal, or a file, that records what was written to it. */
function screen(isTTY: boolean): NodeJS.WriteStream & { text(): string } {
  const stream = new PassThrough();
  return Object.assign(stream, { isTTY, text: () => String(stream.read() ?? "") }) as unknown as NodeJS.WriteStream & {
    text(): string;
  };
}

test("sizes are formatted in binary units", () => {
  assert.deepEqual([0, 1023, 1024, 1536, 16 * 1024 ** 2, 3 * 1024 ** 4].map(size), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.5 KiB",
    "16.0 MiB",
    "3.0 TiB",
  ]);
});

test("a progress bar appears after a second, updates at most ten times a second, and is removed", (context) => {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  const terminal = screen(true);
  const bar = progressBar("to bob", terminal);
  now = 900;
  bar.update(1, 10);
  assert.equal(terminal.text(), "");
  now = 2000;
  bar.update(1024, 4096);
  bar.update(2048, 4096);
  assert.equal(terminal.text(), "\r\x1b[Kto bob [######------------------] 25% 1.0 KiB of 4.0 KiB 512 B/s");
  now = 4000;
  bar.update(4096, undefined);
  assert.equal(terminal.text(), "\r\x1b[Kto bob 4.0 KiB 1.0 KiB/s");
  bar.end();
  assert.equal(terminal.text(), "\r\x1b[K");
});

test("there is no progress bar without a terminal", (context) => {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  const file = screen(false);
  const bar = progressBar("to bob", file);
  now = 5000;
  bar.update(1, 10);
  bar.end();
  assert.equal(file.text(), "");
});

test("a foreign label is escaped, and cut on a narrow terminal; a line replaces the bar", (context) => {
  let now = 0;
  context.mock.method(performance, "now", () => now);
  const terminal = Object.assign(screen(true), { columns: 60 });
  const bar = progressBar("", terminal);
  now = 2000;
  bar.update(1024, undefined, "\x1b[2Kreport");
  assert.equal(terminal.text(), "\r\x1b[K\\e[2Kreport 1.0 KiB 512 B/s");
  bar.hide();
  assert.equal(terminal.text(), "\r\x1b[K");
  bar.update(1024, undefined);
  assert.equal(terminal.text(), "", "it is hidden while the line is written");
  now = 2200;
  bar.update(1024, undefined, "x".repeat(100));
  assert.equal(terminal.text(), `\r\x1b[K${"x".repeat(40)}... 1.0 KiB 465 B/s`);
});
