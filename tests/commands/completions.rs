//! Completions as a shell makes them, and manual pages.

use std::process::{Command, Output};

const VISNYK: &str = env!("CARGO_BIN_EXE_visnyk");

fn visnyk(args: &[&str]) -> Output {
    let output = Command::new(VISNYK).args(args).env_clear().output().expect("it runs");
    assert!(output.status.success(), "{args:?}: {output:?}");
    output
}

/// What bash offers for the last of these words.
fn completed(words: &[&str]) -> Vec<String> {
    let script = format!(
        "source <(\"$0\" completions bash)\n\
         COMP_WORDS=('{}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         _visnyk visnyk \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join("' '")
    );
    let output = Command::new("bash").args(["-c", &script, VISNYK]).output().expect("bash");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(completed(&["visnyk", "subs"]), ["subscribe"]);
    assert_eq!(completed(&["visnyk", "subscribe", "--trans"]), ["--transport"]);
    assert_eq!(completed(&["visnyk", "subscribe", "--transport", "p"]), ["poll"]);
    assert!(completed(&["visnyk", ""]).contains(&"serve".to_owned()));
}

#[test]
fn there_is_a_script_for_each_shell() {
    for (shell, part) in
        [("bash", "_visnyk()"), ("zsh", "#compdef visnyk"), ("fish", "complete -c visnyk")]
    {
        let script = String::from_utf8(visnyk(&["completions", shell]).stdout).expect("UTF-8");
        assert!(script.contains(part) && script.contains("subscribe"), "{shell}: {script}");
    }
    let output = Command::new(VISNYK).args(["completions", "csh"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("zsh"), "{output:?}");
}

#[test]
fn manual_pages_say_what_help_says() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pages = directory.path().join("man/man1");
    visnyk(&["man", pages.to_str().expect("UTF-8")]);
    let mut names = vec!["visnyk".to_owned()];
    let help = String::from_utf8(visnyk(&["--help"]).stdout).expect("UTF-8");
    let (_, commands) = help.split_once("Run a hub:").expect("groups of commands");
    let (commands, _) = commands.split_once("Options:").expect("its own options");
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.extend(commands.map(|name| format!("visnyk-{name}")));
    assert!(names.len() > 8, "{help}");
    for name in names {
        let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).expect("a page");
        assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let page = std::fs::read_to_string(pages.join("visnyk-subscribe.1")).expect("a page");
    assert!(page.contains("Prints the events of channels") && page.contains("\\-\\-transport"));

    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("written");
    let output = Command::new(VISNYK).arg("man").arg(&file).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("file"), "{output:?}");
}
