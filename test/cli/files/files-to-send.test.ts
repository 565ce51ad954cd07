/** What the paths given to `grooveway send` stand for: one row for each kind. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type Finding, filesAt } from "../../../src/cli/files/files-to-send.ts";
import { folder } from "../support.ts";

/** A finding in a few words. */
function inWords(finding: Finding, at: string): string {
  const relative = (path: string) => path.replace(`${at}/`, "");
  switch (finding.type) {
    case "file":
      return `file ${finding.file.name} (${finding.file.size})`;
    case "skipped":
      return `skipped ${relative(finding.path)} ${finding.why}`;
    case "failed":
      return `failed ${relative(finding.error.message)} [${finding.error.code}]`;
  }
}

async function found(path: string, at: string, name?: string): Promise<string[]> {
  const words: string[] = [];
  for await (const finding of filesAt(path, name)) words.push(inWords(finding, at));
  return words;
}

interface Row {
  readonly what: string;
  readonly make: (at: string) => void;
  /** Relative to the folder. */
  readonly path?: string;
  readonly name?: string;
  readonly expected: readonly string[];
}

const file =
  (path: string, content = "content") =>
  (at: string) => {
    mkdirSync(join(at, path, ".."), { recursive: true });
    writeFileSync(join(at, path), content);
  };

const ROWS: readonly Row[] = [
  { what: "a file has its own name", make: file("a/b.txt"), path: "a/b.txt", expected: ["file b.txt (7)"] },
  { what: "a file has the name it is given", make: file("b"), path: "b", name: "x/y", expected: ["file x/y (7)"] },
  { what: "an empty file is a file", make: file("b", ""), path: "b", expected: ["file b (0)"] },
  {
    what: "a folder's files have relative paths as names, in order",
    make: (at) => {
      file("top/z")(at);
      file("top/a/2")(at);
      file("top/a/1")(at);
      file("top/b/1/1")(at);
    },
    path: "top",
    expected: ["file top/z (7)", "file top/a/1 (7)", "file top/a/2 (7)", "file top/b/1/1 (7)"],
  },
  { what: "a trailing slash has no effect", make: file("top/a"), path: "top/", expected: ["file top/a (7)"] },
  {
    what: "a folder keeps its own name however its path is written",
    make: file("top/a"),
    path: "top/../top/.",
    expected: ["file top/a (7)"],
  },
  {
    what: "a folder has the name it is given",
    make: file("top/a"),
    path: "top",
    name: "x",
    expected: ["file x/a (7)"],
  },
  { what: "an empty folder has no file", make: (at) => mkdirSync(join(at, "top")), path: "top", expected: [] },
  {
    what: "a missing path is reported",
    make: () => undefined,
    path: "nowhere",
    expected: ["failed there is no file nowhere: check the path [CannotRead]"],
  },
  {
    what: "a path through a file is reported",
    make: file("b"),
    path: "b/c",
    expected: ["failed there is no file b/c: check the path [CannotRead]"],
  },
  {
    what: "a symbolic link as argument is rejected, and its target is shown",
    make: (at) => symlinkSync("/etc/passwd", join(at, "link")),
    path: "link",
    expected: ["failed link is a symbolic link, which is not followed: name /etc/passwd instead [CannotRead]"],
  },
  {
    what: "a symbolic link to a folder is rejected, even with a trailing slash",
    make: (at) => {
      file("top/a")(at);
      symlinkSync("top", join(at, "link"));
    },
    path: "link/",
    expected: ["failed link/ is a symbolic link, which is not followed: name top instead [CannotRead]"],
  },
  {
    what: "symbolic links in a folder are skipped with a line each",
    make: (at) => {
      file("top/a")(at);
      symlinkSync("a", join(at, "top/file"));
      symlinkSync("..", join(at, "top/up"));
      symlinkSync("nowhere", join(at, "top/nothing"));
      symlinkSync("self", join(at, "top/self"));
    },
    path: "top",
    expected: [
      "file top/a (7)",
      "skipped top/file is a symbolic link",
      "skipped top/nothing is a symbolic link",
      "skipped top/self is a symbolic link",
      "skipped top/up is a symbolic link",
    ],
  },
  {
    what: "a pipe as argument is rejected",
    make: (at) => execFileSync("mkfifo", [join(at, "pipe")]),
    path: "pipe",
    expected: [
      "failed pipe is a pipe, not a file: pipe its contents to grooveway send ADDRESS - --name NAME [CannotRead]",
    ],
  },
  {
    what: "a pipe in a folder is skipped",
    make: (at) => {
      mkdirSync(join(at, "top"));
      execFileSync("mkfifo", [join(at, "top/pipe")]);
    },
    path: "top",
    expected: ["skipped top/pipe is a pipe"],
  },
  {
    what: "names with line breaks, quotes and letters of any script are unchanged",
    make: (at) => {
      for (const name of ["new\nline", 'a "quote"', "ünï", "漢字", "-x", "a\\b", " ", "\u202egnp.exe"])
        file(`top/${name}`)(at);
    },
    path: "top",
    expected: [
      "file top/  (7)",
      "file top/-x (7)",
      'file top/a "quote" (7)',
      "file top/a\\b (7)",
      "file top/new\nline (7)",
      "file top/ünï (7)",
      "file top/\u202egnp.exe (7)",
      "file top/漢字 (7)",
    ],
  },
  {
    what: "control characters of a name in an error are escaped",
    make: (at) => symlinkSync("\x1b[2Kx", join(at, "\x1b[2K\rsent")),
    path: "\x1b[2K\rsent",
    expected: ["failed \\e[2K\\rsent is a symbolic link, which is not followed: name \\e[2Kx instead [CannotRead]"],
  },
];

describe("paths to send", () => {
  for (const { what, make, path = "", name, expected } of ROWS) {
    it(what, async (context) => {
      const at = await folder(context);
      make(at);
      assert.deepEqual(await found(`${at}/${path}`, at, name), expected);
    });
  }

  it("may have a name that is not UTF-8, which is found by its bytes", async (context) => {
    const at = await folder(context);
    mkdirSync(join(at, "top"));
    const bytes = Buffer.concat([Buffer.from(`${at}/top/`), Buffer.from([0x66, 0xff, 0x67])]);
    writeFileSync(bytes, "content");
    const findings: Finding[] = [];
    for await (const finding of filesAt(join(at, "top"))) findings.push(finding);
    const [only] = findings;
    assert.ok(only?.type === "file");
    assert.ok(only.file.path.equals(bytes));
    assert.equal(only.file.name, "top/f\ufffdg");
  });

  it("may contain an unreadable folder, which is reported; the others are found", async (context) => {
    if (process.geteuid?.() !== 0) return context.skip("SKIPPED: only root can become somebody else");
    const at = await folder(context);
    for (const path of ["top/closed/a", "top/open/a"]) file(path)(at);
    execFileSync("chmod", ["755", at]);
    execFileSync("chmod", ["700", join(at, "top/closed")]);
    process.seteuid?.(65_534);
    const words = await found(join(at, "top"), at).finally(() => process.seteuid?.(0));
    assert.deepEqual(words, [
      "failed cannot read top/closed: this user may not read it (EACCES) [CannotRead]",
      "file top/open/a (7)",
    ]);
  });

  it("from <(...) of a shell are pipes behind links, and are rejected", async (context) => {
    if (process.platform !== "linux") return context.skip("SKIPPED: no /proc");
    const at = await folder(context);
    assert.match(readlinkSync("/dev/stdin"), /fd/);
    const [only = ""] = await found("/dev/stdin", at);
    assert.match(only, /^failed \/dev\/stdin is a symbolic link, which is not followed.*\[CannotRead\]$/);
  });

  it("deeper than the system's path limit are walked up to the limit", async (context) => {
    const at = await folder(context);
    const deep = `cd "$1"; for i in $(seq 25); do mkdir "$2" && cd -P "$2" || exit 1; done; touch end`;
    execFileSync("bash", ["-c", deep, "bash", at, "d".repeat(200)]);
    const words = await found(at, at, "x");
    // Node cannot remove a tree this deep.
    execFileSync("rm", ["-rf", join(at, "d".repeat(200))]);
    assert.equal(words.length, 1);
    assert.match(words[0] ?? "", /^failed cannot read .*: the path is too long for this system \[CannotRead\]$/);
  });
});
