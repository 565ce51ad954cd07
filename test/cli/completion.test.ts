/** Completion of the command line, by the shells themselves. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { completionCommand } from "../../src/cli/commands/completion.ts";
import { COMMANDS } from "../../src/cli/commands.ts";
import { completionScript, SHELLS, type Shell, syntaxOf } from "../../src/cli/completion.ts";
import { CAPABILITIES, TRANSPORTS } from "../../src/device/index.ts";
import { folder, run } from "./support.ts";

const helps = await Promise.all(
  Object.entries(COMMANDS).map(async ([name, { summary, load }]) => ({ name, summary, help: (await load()).help })),
);

describe("the syntax of a command, from its help text", () => {
  const syntax = new Map(helps.map((help) => [help.name, syntaxOf(help)]));

  it("has the words that follow it", () => {
    const actions = Object.fromEntries([...syntax].map(([name, { actions }]) => [name, actions]));
    assert.deepEqual(actions, {
      ...Object.fromEntries(Object.keys(COMMANDS).map((name) => [name, []])),
      token: ["keygen", "issue", "inspect", "secret"],
      inbox: ["create", "ls", "rotate", "rm", "replay"],
      mailbox: ["ls", "show", "purge", "lock", "unlock", "rule"],
      service: ["install", "uninstall"],
      completion: ["bash", "zsh", "fish"],
      deploy: ["check", "cost"],
      edge: ["backup", "restore", "rules", "dashboard"],
    });
  });

  it("has the files that it takes", () => {
    const takes = [...syntax].flatMap(([name, { beforeFiles }]) =>
      beforeFiles === undefined ? [] : [[name, beforeFiles]],
    );
    assert.deepEqual(takes, [
      ["start", 0],
      ["edge", 1],
      ["send", 1],
      ["connect", 0],
    ]);
  });

  it("has every option that its help text mentions at the beginning of a line", () => {
    for (const { name, help } of helps) {
      const mentioned = [...help.matchAll(/^ {2}((?:-\w, )?--[a-z-]+)/gm)].flatMap(([, text = ""]) => text.split(", "));
      const found = syntax.get(name)?.options.map((option) => option.name) ?? [];
      assert.deepEqual(
        mentioned.filter((option) => !found.includes(option)),
        [],
        name,
      );
    }
    assert.ok((syntax.get("edge")?.options.length ?? 0) > 20);
  });

  it("has the values of an option", () => {
    const option = (command: string, name: string) =>
      syntax.get(command)?.options.find((option) => option.name === name);
    const value = (command: string, name: string) => option(command, name)?.value;
    const ofEdges = TRANSPORTS.filter((name) => CAPABILITIES[name].carriesToken);
    for (const command of ["send", "recv", "login"]) {
      const choices = ["auto", ...(command === "login" ? ofEdges : TRANSPORTS)];
      const expected = { kind: "choice", placeholder: "NAME", choices };
      assert.deepEqual(value(command, "--transport"), expected, command);
      assert.equal(value(command, "--token")?.kind, "at-file", command);
    }
    assert.deepEqual(value("edge", "--tls-cert"), { kind: "file", placeholder: "FILE" });
    assert.deepEqual(value("recv", "--out"), { kind: "folder", placeholder: "DIR" });
    assert.deepEqual(value("send", "--as"), { kind: "text", placeholder: "IDENTITY/DEVICE" });
    assert.equal(value("send", "--json"), undefined);
    assert.equal(option("send", "--json")?.isRepeatable, false);
    assert.equal(option("recv", "--remove")?.isRepeatable, true);
    assert.equal(option("edge", "-v")?.description, "print the worker's log");
  });
});

/** A folder with the script, two files and a folder; undefined if the shell is not installed: the test is skipped. */
async function place(context: TestContext, shell: Shell) {
  if (spawnSync(shell, ["--version"]).error !== undefined) {
    context.skip(`SKIPPED: ${shell} is not installed`);
    return undefined;
  }
  const at = await folder(context);
  writeFileSync(join(at, "script"), completionScript(shell, helps));
  assert.equal(spawnSync(shell, ["-n", join(at, "script")], { encoding: "utf8" }).stderr, "");
  mkdirSync(join(at, "work"));
  for (const name of ["a file.txt", "a'b.txt"]) writeFileSync(join(at, "work", name), "");
  mkdirSync(join(at, "work", "album"));
  return { script: join(at, "script"), work: join(at, "work"), home: at };
}

/** A line up to the cursor, and what completes its last word. */
const LINES: readonly (readonly [line: string, candidates: readonly string[]])[] = [
  ["grooveway s", ["send", "service", "start"]],
  ["grooveway help ma", ["mailbox"]],
  ["grooveway expose --so", ["--socks"]],
  ["grooveway forward --s", ["--socks", "--stdio"]],
  ["grooveway send --tr", ["--transport"]],
  ["grooveway send --transport k", ["keepalive"]],
  ["grooveway send --edge ", []],
  ["grooveway send bob a", ["a file.txt", "a'b.txt", "album"]],
  ["grooveway recv --out a", ["album"]],
  ["grooveway recv a", []],
  ["grooveway token i", ["inspect", "issue"]],
  ["grooveway mailbox show l", []],
  ["grooveway edge --tls-", ["--tls-cert", "--tls-key"]],
  ["grooveway edge --keys a", ["a file.txt", "a'b.txt", "album"]],
  ["grooveway completion ", [...SHELLS].sort()],
];

describe("completion", () => {
  it("by bash", async (context) => {
    const at = await place(context, "bash");
    if (at === undefined) return;
    const ask = (words: readonly string[]) => {
      const program = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _grooveway; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const out = execFileSync("bash", ["-uc", program, "bash", at.script, ...words], {
        cwd: at.work,
        encoding: "utf8",
      });
      return out.split("\n").filter((line) => line !== "");
    };
    for (const [line, candidates] of LINES) assert.deepEqual(ask(line.split(" ")).sort(), candidates, line);
    // As bash itself cuts it.
    assert.deepEqual(ask(["grooveway", "send", "--token", "@", "al"]), ["album"]);
    assert.deepEqual(ask(["grooveway", "send", "--token", "@"]).sort(), ["a file.txt", "a'b.txt", "album"]);
    assert.deepEqual(ask(["grooveway", "send", "--token", "=@", "al"]), ["album"]);
    assert.deepEqual(ask(["grooveway", "send", "--ca", "=", "al"]), ["album"]);
    assert.deepEqual(ask(["grooveway", "send", "--ca", "="]).sort(), ["a file.txt", "a'b.txt", "album"]);
    assert.deepEqual(ask(["grooveway", "send", "--transport", "=", "k"]), ["keepalive"]);
    assert.deepEqual(ask(["grooveway", "send", "--name", "x", "a"]), [], "the address comes first");
    const edge = ["--edge", "https", ":", "//edge.example.com"];
    assert.deepEqual(ask(["grooveway", "send", ...edge, "al"]), [], "the address comes first");
    assert.deepEqual(ask(["grooveway", "send", ...edge, "bob", "@", "relay", "al"]), ["album"]);
    assert.deepEqual(ask(["grooveway", "send", "--edge", "=", "https", ":", "//e", "bob", "al"]), ["album"]);
  });

  it("by fish", async (context) => {
    const at = await place(context, "fish");
    if (at === undefined) return;
    const ask = (line: string) => {
      const program = 'source "$argv[1]"; complete -C "$argv[2]"';
      const env = { ...process.env, HOME: at.home, XDG_CONFIG_HOME: at.home, XDG_DATA_HOME: at.home };
      const options = { cwd: at.work, encoding: "utf8", env } as const;
      const out = execFileSync("fish", ["--no-config", "-c", program, at.script, line], options);
      // A candidate, and its description after a tab.
      return out.split("\n").flatMap((row) => (row === "" ? [] : [row.split("\t")[0]?.replace(/\/$/, "")]));
    };
    for (const [line, candidates] of LINES) assert.deepEqual(ask(line).sort(), candidates, line);
    assert.deepEqual(ask("grooveway send --token @al"), ["@album"]);
  });

  it("by zsh", async (context) => {
    const at = await place(context, "zsh");
    if (at === undefined) return;
    // Every completion function ends in compadd; with -O it gives the matches that it would add. Nothing is inserted.
    const rc = `
      autoload -Uz compinit; compinit -u -d "$HOME/dump"; source ${at.script}
      compadd() {
        local -a matches
        if [[ " $* " != *" -"[ODA]" "* ]]; then
          builtin compadd -O matches "$@"; print -rl -- "\${matches[@]}" >>"$HOME/found"
        fi
        builtin compadd "$@"
      }
      ask() { _main_complete; compstate[insert]= compstate[list]=; print -r -- "done" >>"$HOME/found" }
      zle -C ask complete-word ask; bindkey '^I' ask; PS1=; print -r -- "done" >"$HOME/found"`;
    writeFileSync(join(at.home, ".zshrc"), rc);
    // The terminal's output is read, so that it never blocks. ^U deletes the line.
    const driver = `
      zmodload zsh/zpty zsh/zselect; cd "$1"; shift; zpty z zsh -i
      await() { until [[ -e "$HOME/found" && $(tail -n 1 "$HOME/found") == "done" ]]; do zpty -rt z output; zselect -t 2; done }
      await
      for line in "$@"; do
        : >"$HOME/found"; zpty -w -n z $'\x15'"$line"$'\t'; await; cat "$HOME/found"
      done`;
    const ask = (lines: readonly string[]) => {
      const env = { ...process.env, HOME: at.home, ZDOTDIR: at.home };
      const options = { encoding: "utf8", env, timeout: 300_000 } as const;
      const out = execFileSync("zsh", ["-fc", driver, "zsh", at.work, ...lines], options);
      return out.split("done\n").map((rows) => rows.split("\n").filter((row) => row !== ""));
    };
    const found = ask([...LINES.map(([line]) => line), "grooveway send --token @al"]);
    for (const [index, [line, candidates]] of LINES.entries()) {
      // Some are found twice, as a file and as a folder.
      const unquoted = new Set(found[index]?.map((row) => row.replaceAll("\\", "")));
      assert.deepEqual([...unquoted].sort(), candidates, line);
    }
    assert.ok(found[LINES.length]?.includes("album"));
  });

  it("script is what the command prints", async (context) => {
    const { code, stdout } = await run(context, ["completion", "bash"]);
    assert.deepEqual([code, stdout], [0, completionScript("bash", helps)]);
  });

  it("for an unknown shell is refused", async () => {
    for (const [args, message] of [
      [[], /the shell is missing: write one of bash, zsh, fish;/],
      [["tcsh"], /"tcsh" is not a known shell: write one of bash, zsh, fish;/],
      [["bash", "zsh"], /"zsh" is one argument too many/],
    ] as const) {
      await assert.rejects(completionCommand(COMMANDS).run(args), { code: "Usage", message });
    }
  });
});
