/** The tools that are asked for the proxies of the system, as processes. */
import assert from "node:assert/strict";
import { platform } from "node:os";
import { test } from "node:test";
import { runTool } from "../../src/device/transports/proxy/system-settings/ask-system.ts";

const skip = platform() === "win32" && "Windows has no signals";

test("a tool that hangs, and heeds no signal that it can ignore, is not waited for", {
  skip,
  timeout: 30_000,
}, async () => {
  assert.equal(await runTool("sh", ["-c", "echo settings"]), "settings\n");
  await assert.rejects(runTool("sh", ["-c", 'trap "" TERM; while :; do sleep 0.1; done']));
});
