/**
 * Scripts with which a shell completes the command line of `grooveway`, made from the help texts: what is documented is
 * completed. Pure.
 *
 *   Usage: grooveway token keygen ...   words after the command, such as `keygen`
 *   Usage: grooveway send ... PATH...   the command takes files
 *     --ca FILE       text              an option that takes a file; DIR is a folder, and @FILE a file after an @
 *     --transport N   a, b, c; text     an option that takes one of these words
 *     --json          text              an option without a value
 *
 * @module
 */

/** A command and its help texts. */
export interface CommandHelp {
  readonly name: string;
  readonly summary: string;
  readonly help: string;
}

export const SHELLS = ["bash", "zsh", "fish"] as const;

export type Shell = (typeof SHELLS)[number];

/** What an option takes. */
export type Value =
  | { readonly kind: "file" | "folder" | "at-file" | "text"; readonly placeholder: string }
  | { readonly kind: "choice"; readonly placeholder: string; readonly choices: readonly string[] };

export interface OptionHelp {
  /** With its dashes. */
  readonly name: string;
  /** Undefined for a switch. */
  readonly value: Value | undefined;
  readonly description: string;
  readonly isRepeatable: boolean;
}

/** What can follow a command. */
export interface CommandSyntax {
  readonly name: string;
  readonly summary: string;
  /** Words of which one follows the command. */
  readonly actions: readonly string[];
  readonly options: readonly OptionHelp[];
  /** Arguments before the files that the command takes; undefined if it takes no files. */
  readonly beforeFiles: number | undefined;
}

/** Returns the script for a shell. */
export function completionScript(shell: Shell, commands: readonly CommandHelp[]): string {
  const syntax = commands.map(syntaxOf);
  switch (shell) {
    case "bash":
      return bash(syntax);
    case "zsh":
      return zsh(syntax);
    case "fish":
      return fish(syntax);
  }
}

/** Reads the syntax of a command from its help text. */
export function syntaxOf({ name, summary, help }: CommandHelp): CommandSyntax {
  const usage = help.split("\n\n", 1)[0]?.split("\n") ?? [];
  const rests = usage.map((line) => /^(?:Usage:| {6}) grooveway [a-z]+ (.*)$/.exec(line)?.[1] ?? "");
  const actions = rests.flatMap((rest) => /^([a-z]+(?:\|[a-z]+)*)(?: |$)/.exec(rest)?.[1]?.split("|") ?? []);
  const positionals = rests.map((rest) =>
    rest
      .replace(/\[?--[a-z-]+ [A-Z]+\]?/g, "")
      .replace("[options]", "")
      .trim(),
  );
  const files = positionals.map((text) => text.split(/ +/)).find((words) => words.some((word) => FILES.test(word)));
  return {
    name,
    summary,
    actions: [...new Set(actions)],
    options: [...optionsIn(help), HELP],
    beforeFiles: files?.findIndex((word) => FILES.test(word)),
  };
}

const FILES = /^\[?(?:PATH|FILE)\b/;

const HELP: OptionHelp = {
  name: "--help",
  value: undefined,
  description: "show the options, with an example",
  isRepeatable: false,
};

/** An option as it begins its line: `--name`, or `--name VALUE`. A value has no small letters. */
const OPTION = /^(-[a-zA-Z]|--[a-z][a-z-]*)(?: ([A-Z@][^a-z ,]*))?/;

function optionsIn(help: string): OptionHelp[] {
  const lines = help.split("\n");
  return lines.flatMap((line, index) => {
    if (!/^ {2}-/.test(line)) return [];
    let rest = line.slice(2);
    const found: [string, string | undefined][] = [];
    for (let match = OPTION.exec(rest); match !== null; match = OPTION.exec(rest)) {
      found.push([match[1] ?? "", match[2]]);
      rest = rest.slice(match[0].length);
      if (!rest.startsWith(", -")) break;
      rest = rest.slice(", ".length);
    }
    const following = lines.slice(index + 1);
    const end = following.findIndex((line) => !/^ {4}/.test(line));
    const text = [rest, ...following.slice(0, end < 0 ? following.length : end)]
      .map((part) => part.trim())
      .join(" ")
      .trim();
    return found.map(([name, placeholder]) => ({
      name,
      value: placeholder === undefined ? undefined : valueIn(placeholder, text),
      description: shortened(text),
      isRepeatable: /\brepeatable\b/.test(text),
    }));
  });
}

function valueIn(placeholder: string, text: string): Value {
  const list = /^([a-z0-9-]+(?:, [a-z0-9-]+)+)(?:;|$)/.exec(text)?.[1];
  if (list !== undefined) return { kind: "choice", placeholder, choices: list.split(", ") };
  if (placeholder.includes("@FILE")) return { kind: "at-file", placeholder };
  if (placeholder === "FILE") return { kind: "file", placeholder };
  return { kind: placeholder === "DIR" ? "folder" : "text", placeholder };
}

/** Keeps the first statement of a description: it has one line beside the option. */
function shortened(text: string): string {
  return text.split(/[;.](?: |$)/, 1)[0] ?? "";
}

function bash(commands: readonly CommandSyntax[]): string {
  const cases = commands.map(({ name, actions, options, beforeFiles }) => {
    const named = (kind: Value["kind"]) => names(options.filter(({ value }) => value?.kind === kind));
    return `    ${name})
      options=${quote(names(options))} actions=${quote(actions.join(" "))}
      texts=${quote(`${named("text")} ${named("choice")}`.trim())}
      files=${quote(named("file"))} folders=${quote(named("folder"))} tokens=${quote(named("at-file"))}
      before=${beforeFiles ?? -1} ;;`;
  });
  const choices = commands.flatMap(({ name, options }) =>
    options.flatMap((option) =>
      option.value?.kind === "choice"
        ? [`    ${quote(`${name} ${option.name}`)}) words=${quote(option.value.choices.join(" "))} ;;`]
        : [],
    ),
  );
  return `# Completion of grooveway for bash.
_grooveway() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev= command=\${COMP_WORDS[1]}
  local options= actions= texts= files= folders= tokens= before=-1 words= count=0 word last= i IFS=$' \\t\\n'
  local -a parts=()
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W ${quote(`${names(commands)} help --help --version`)} -- "$cur"))
    return
  fi
  # Bash cuts words at = : and @, as in --ca=FILE, https://HOST and @FILE. It replaces the last piece.
  for ((i = 1; i <= COMP_CWORD; i += 1)); do
    word=\${COMP_WORDS[i]}
    if [[ -n $last && ( $word == [=:]* || $last == *[=:@] || ( $word == @* && $last != -* ) ) ]]; then
      last=$last$word
      parts[\${#parts[@]}-1]=$last
    else
      last=$word
      parts+=("$word")
    fi
  done
  if [[ $cur == [=:@]* ]]; then cur=; fi
  if [[ $last == --*=* ]]; then prev=\${last%%=*}; elif ((\${#parts[@]} > 1)); then prev=\${parts[\${#parts[@]}-2]}; fi
  case $command in
    help)
      if ((\${#parts[@]} == 2)); then actions=${quote(names(commands))}; fi ;;
${cases.join("\n")}
  esac
  case "$command $prev" in
${choices.join("\n")}
  esac
  if [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  elif [[ " $files $tokens " == *" $prev "* ]]; then
    compopt -o filenames 2>/dev/null
    IFS=$'\\n' COMPREPLY=($(compgen -f -- "$cur"))
  elif [[ " $folders " == *" $prev "* ]]; then
    compopt -o filenames 2>/dev/null
    IFS=$'\\n' COMPREPLY=($(compgen -d -- "$cur"))
  elif [[ " $texts " == *" $prev "* ]]; then
    return
  elif [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif ((\${#parts[@]} == 2)) && [[ -n $actions ]]; then
    COMPREPLY=($(compgen -W "$actions" -- "$cur"))
  elif ((before >= 0)); then
    last=
    for ((i = 1; i < \${#parts[@]} - 1; i += 1)); do
      word=\${parts[i]}
      if [[ $word != -* && ( -z $last || " $texts $files $folders $tokens " != *" $last "* ) ]]; then
        count=$((count + 1))
      fi
      last=$word
    done
    if ((count >= before)); then
      compopt -o filenames 2>/dev/null
      IFS=$'\\n' COMPREPLY=($(compgen -f -- "$cur"))
    fi
  fi
}
complete -F _grooveway grooveway
`;
}

function names(named: readonly { readonly name: string }[]): string {
  return named.map(({ name }) => name).join(" ");
}

function zsh(commands: readonly CommandSyntax[]): string {
  const action = (value: Value) => {
    switch (value.kind) {
      case "file":
        return "_files";
      case "folder":
        return "_files -/";
      case "at-file":
        return "_grooveway_token";
      case "choice":
        return `(${value.choices.join(" ")})`;
      case "text":
        return " ";
    }
  };
  const cases = commands.map(({ name, actions, options, beforeFiles }) => {
    const specs = options.map(({ name, value, description, isRepeatable }) => {
      const explained = `${isRepeatable ? "*" : ""}${name}[${description.replace(/[[\]\\]/g, "\\$&")}]`;
      return value === undefined
        ? explained
        : `${explained}:${value.placeholder.replace(/:/g, "\\:")}:${action(value)}`;
    });
    if (actions.length > 0) specs.push(`1:action:(${actions.join(" ")})`);
    for (let n = 1; n <= (beforeFiles ?? 0); n += 1) specs.push(`${n}:argument: `);
    if (beforeFiles !== undefined) specs.push("*:file:_files");
    return `        ${name})
          _arguments ${specs.map((spec) => `\\\n            ${quote(spec)}`).join(" ")} ;;`;
  });
  return `#compdef grooveway
# Completion of grooveway for zsh.
_grooveway_token() {
  compset -P @ && _files
}
_grooveway() {
  local curcontext=$curcontext state line
  local -a commands
  commands=(
${commands.map(({ name, summary }) => `    ${quote(`${name}:${summary.replace(/:/g, "\\:")}`)}`).join("\n")}
    'help:show the help of a command'
  )
  _arguments -C '1: :->command' '*:: :->arguments'
  case $state in
    command) _describe command commands ;;
    arguments)
      case $words[1] in
        help)
          _arguments '1:command:(${names(commands)})' ;;
${cases.join("\n")}
      esac ;;
  esac
}
# The script is either sourced, or the file _grooveway of a folder in fpath.
if [[ $funcstack[1] == _grooveway ]]; then
  _grooveway "$@"
else
  compdef _grooveway grooveway
fi
`;
}

function fish(commands: readonly CommandSyntax[]): string {
  const value = (value: Value) => {
    switch (value.kind) {
      case "file":
        return "-r -F";
      case "folder":
        return "-x -a '(__fish_complete_directories)'";
      case "at-file":
        return "-x -a '(__grooveway_token)'";
      case "choice":
        return `-x -a ${quote(value.choices.join(" "))}`;
      case "text":
        return "-x";
    }
  };
  const lines = commands.flatMap(({ name, summary, actions, options, beforeFiles }) => {
    const on = `complete -c grooveway -n ${quote(`__grooveway_command ${name}`)}`;
    const first = `complete -c grooveway -n ${quote(`__grooveway_first ${name}`)}`;
    return [
      `complete -c grooveway -n __grooveway_start -a ${name} -d ${fishQuote(summary)}`,
      ...(actions.length === 0 ? [] : [`${first} -a ${quote(actions.join(" "))}`]),
      ...(beforeFiles === undefined ? [] : [`${on} -F`]),
      ...options.map((option) => {
        const flag = option.name.startsWith("--") ? `-l ${option.name.slice(2)}` : `-s ${option.name.slice(1)}`;
        const takes = option.value === undefined ? "" : ` ${value(option.value)}`;
        return `${on} ${flag}${takes} -d ${fishQuote(option.description)}`;
      }),
    ];
  });
  return `# Completion of grooveway for fish.
function __grooveway_start
    test (count (commandline -opc)) -eq 1
end
function __grooveway_command
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end
function __grooveway_first
    __grooveway_command $argv; and test (count (commandline -opc)) -eq 2
end
function __grooveway_token
    set -l word (commandline -ct)
    string match -q '@*' -- $word; or return
    __fish_complete_path (string sub -s 2 -- $word) | string replace -r '^' '@'
end
complete -c grooveway -f
complete -c grooveway -n __grooveway_start -a help -d 'show the help of a command'
complete -c grooveway -n '__grooveway_first help' -a ${quote(names(commands))}
${lines.join("\n")}
`;
}

/** Quotes a text for bash and zsh; and for fish, if it has neither a quotation mark nor a backslash. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Quotes a text for fish, where a backslash escapes in quotation marks. */
function fishQuote(text: string): string {
  return `'${text.replace(/['\\]/g, "\\$&")}'`;
}
