/** Programs from Debian packages, unpacked beside the other peers, which needs no privileges and installs nothing. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Program {
  readonly path: string;
  /** Environment with its libraries, which were unpacked with it. */
  readonly env: NodeJS.ProcessEnv;
}

/**
 * The program, or why it is not available.
 *
 * @param folder where to unpack
 * @param packages the program's own and those of its libraries that a minimal machine lacks
 * @param inside the program's path in them, as `usr/bin/x`
 */
export async function debianProgram(
  folder: string,
  packages: readonly string[],
  inside: string,
): Promise<Program | string> {
  const own = `/${inside}`;
  if (existsSync(own)) return { path: own, env: process.env };
  const path = join(folder, inside);
  try {
    if (!existsSync(path)) {
      mkdirSync(folder, { recursive: true });
      await run("apt-get", ["download", ...packages], { cwd: folder, timeout: 60_000 });
      const archives = readdirSync(folder).filter((file) => file.endsWith(".deb"));
      for (const archive of archives) await run("dpkg", ["-x", archive, "."], { cwd: folder });
      // Documentation, some of it links to packages that are not here.
      rmSync(join(folder, "usr/share"), { recursive: true, force: true });
    }
  } catch (error) {
    const why = (error instanceof Error ? error.message : String(error)).split("\n").slice(0, 2).join(" ");
    return `not installed, and apt-get download failed: ${why.slice(0, 160)}`;
  }
  if (!existsSync(path)) return `the package has no ${inside}`;
  const libraries = ["usr/lib", "lib"].flatMap((library) => {
    const there = join(folder, library);
    if (!existsSync(there)) return [];
    return [there, ...readdirSync(there).flatMap((name) => (name.endsWith("-linux-gnu") ? [join(there, name)] : []))];
  });
  return { path, env: { ...process.env, LD_LIBRARY_PATH: libraries.join(":") } };
}
