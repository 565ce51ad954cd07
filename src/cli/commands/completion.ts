/** `grooveway completion`: prints a completion script for a shell. */
import { printable } from "../../lib/printable.ts";
import { completionScript, SHELLS } from "../completion.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { type Command, type ListedCommand, parse, unexpected, usage } from "../parse-arguments.ts";

/** @param commands all subcommands, by name */
export function completionCommand(commands: Readonly<Record<string, ListedCommand>>): Command {
  return {
    help: `Usage: grooveway completion ${SHELLS.join("|")}

Prints a script with which a shell completes the commands, options and files of grooveway. Write it where the shell looks:

  bash   ~/.local/share/bash-completion/completions/grooveway (needs the package bash-completion), or source it in ~/.bashrc
  zsh    the file _grooveway in a folder of $fpath, or source it in ~/.zshrc after compinit
  fish   ~/.config/fish/completions/grooveway.fish

Example: grooveway completion fish > ~/.config/fish/completions/grooveway.fish`,

    async run(args) {
      const { positionals } = parse("completion", args, {});
      const [wanted, ...more] = positionals;
      if (more.length > 0) throw unexpected("completion", more[0]);
      const shell = SHELLS.find((shell) => shell === wanted);
      if (shell === undefined) {
        const what = wanted === undefined ? "the shell is missing" : `${printable(wanted)} is not a known shell`;
        throw usage("completion", `${what}: write one of ${SHELLS.join(", ")}`);
      }
      const helps = await Promise.all(
        Object.entries(commands).map(async ([name, { summary, load }]) => ({
          name,
          summary,
          help: (await load()).help,
        })),
      );
      process.stdout.write(completionScript(shell, helps));
      return EXIT_CODES.Done.status;
    },
  };
}
