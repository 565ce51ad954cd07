/**
 * Reads edge.toml.
 *
 * @module
 */
import { dirname, resolve } from "node:path";
import { readOperatorFile, unusableFile } from "../operator-file.ts";
import { EDGE_FILES, EDGE_OPTIONS, type EdgeValues } from "./edge-options.ts";
import { parseEdgeToml } from "./edge-toml.ts";

/**
 * Returns its values, with paths made absolute.
 *
 * @throws CommandError CannotRead; ConfigUnusable if its contents are wrong, or others may change it, or read a secret
 */
export function readEdgeFile(path: string): EdgeValues {
  const { text, mode } = readOperatorFile(path);
  const parsed = parseEdgeToml(text, EDGE_OPTIONS);
  if (!parsed.ok) {
    const { line, problem, cure } = parsed.problems;
    throw unusableFile(`${path}${line === undefined ? "" : `, line ${line}`}: ${problem}: ${cure}`);
  }
  const values: EdgeValues = parsed.value;
  const folder = dirname(resolve(path));
  const token = values["admin-token"];
  if (token !== undefined && token !== "" && !token.startsWith("@") && (mode & 0o044) !== 0) {
    const cure = `run chmod 600 on it, or write admin-token = "@FILE"`;
    throw unusableFile(`others can read ${path}, which has the admin token: ${cure}`);
  }
  const files = EDGE_FILES.flatMap((name) => {
    const value = values[name];
    return value === undefined || value === "" ? [] : [[name, resolve(folder, value)] as const];
  });
  return {
    ...values,
    ...Object.fromEntries(files),
    ...(token?.startsWith("@") && { "admin-token": `@${resolve(folder, token.slice(1))}` }),
  };
}
