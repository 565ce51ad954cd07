/**
 * Reads the file of `grooveway connect`.
 *
 * @module
 */
import { readOperatorFile, unusableFile } from "../operator-file.ts";
import { type Connections, parseConnections } from "./connect-toml.ts";

/** @throws CommandError CannotRead; ConfigUnusable if its contents are wrong, or all may change it */
export function readConnections(path: string): Connections {
  const parsed = parseConnections(readOperatorFile(path).text);
  if (parsed.ok) return parsed.value;
  const { line, problem, cure } = parsed.problems;
  throw unusableFile(`${path}${line === undefined ? "" : `, line ${line}`}: ${problem}: ${cure}`);
}
