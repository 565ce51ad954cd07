/** Parsing the command line, and suggestions for mistakes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CommandError } from "../../src/cli/command-error.ts";
import { parse } from "../../src/cli/parse-arguments.ts";

const OPTIONS = {
  port: { type: "string" },
  name: { type: "string", multiple: true },
  json: { type: "boolean" },
  verbose: { type: "boolean", short: "v" },
} as const;

test("invalid arguments are rejected with a cure", () => {
  const table: readonly (readonly [readonly string[], string])[] = [
    [["--prot", "1"], "there is no option --prot, did you mean --port?"],
    [["--prot=1"], "there is no option --prot, did you mean --port?"],
    [["--everything"], "there is no option --everything"],
    [["--__proto__"], "there is no option --__proto__"],
    [["-q"], "there is no option -q"],
    [["-vq"], "there is no option -q"],
    [["--port"], "--port needs a value; write --port=VALUE if it begins with a dash"],
    [["--port", "--json"], "--port needs a value; write --port=VALUE if it begins with a dash"],
    [["--port", "1", "--port", "2"], "--port is given twice: give it once"],
    [["--port=1", "x", "--port=1"], "--port is given twice: give it once"],
    [["--json=yes"], "--json takes no value: leave out =yes"],
  ];
  for (const [args, why] of table) {
    assert.throws(
      () => parse("edge", args, OPTIONS),
      { code: "Usage", message: `${why}; see grooveway edge --help` },
      args.join(" "),
    );
  }
});

test("valid arguments are parsed", () => {
  const table: readonly (readonly [readonly string[], object, readonly string[]])[] = [
    [["--port=-1", "a"], { port: "-1" }, ["a"]],
    [["a", "--port", "1", "b"], { port: "1" }, ["a", "b"]],
    [["--name", "a", "--name", "b"], { name: ["a", "b"] }, []],
    [["-v", "-v", "--json", "--json"], { verbose: true, json: true }, []],
    [["--port", "-"], { port: "-" }, []],
    [["--", "--prot", "-q"], {}, ["--prot", "-q"]],
    [["-"], {}, ["-"]],
  ];
  for (const [args, values, positionals] of table) {
    const parsed = parse("edge", args, OPTIONS);
    assert.deepEqual({ ...parsed.values }, values, args.join(" "));
    assert.deepEqual(parsed.positionals, positionals);
  }
});

test("any command line is parsed or rejected with Usage", () => {
  const word = fc.oneof(fc.string(), fc.constantFrom("--port", "--name", "--json", "-v", "--", "-", "--port=", "--=x"));
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), (args) => {
      try {
        parse("edge", args, OPTIONS);
      } catch (error) {
        assert(error instanceof CommandError && error.code === "Usage", String(error));
      }
    }),
  );
});
