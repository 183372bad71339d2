//! What the documents promise: their links lead somewhere, their commands are ones that the programs know, and the tests that
//! they name exist. It must never change a file. Next: `operator_files.rs`, the files that operators copy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pages whose commands people type.
const TYPED: [&str; 3] = ["README.md", "docs/migrating-from-app-mesh.md", "docs/runbook.md"];

/// Folders of tests, as docs/what-happens-when.md shortens them.
const SHORT: [(&str, &str); 3] =
    [("G/", "gateway/tests/"), ("C/", "control/tests/"), ("A/", "crates/testkit/tests/account/")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// README.md and every page below docs.
fn pages() -> Vec<String> {
    let mut found = vec!["README.md".to_owned()];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    found
}

/// Lines outside code, and the code: indented blocks and fences, `text` and the like left out.
fn prose_and_code(text: &str) -> (Vec<&str>, Vec<String>) {
    let (mut prose, mut code) = (Vec::new(), Vec::new());
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        if let Some(word) = line.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(word) };
        } else if let Some(word) = fence {
            if word == "sh" || word.is_empty() {
                code.push(line.to_owned());
            }
        } else if let Some(line) = line.strip_prefix("    ") {
            code.push(line.to_owned());
        } else {
            prose.push(line);
        }
    }
    (prose, code)
}

/// The targets of `[text](target)`.
fn links(prose: &[&str]) -> Vec<String> {
    let text = prose.join("\n");
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(target, _)| target.to_owned()).collect()
}

/// A heading as the part of an address behind `#`, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose_and_code(text).0.iter().filter(|line| line.starts_with('#')).map(|line| anchor(line)).collect()
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_and_a_heading() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&prose_and_code(&text).0) {
            if link.starts_with("http") {
                continue;
            }
            seen += 1;
            let (file, heading) =
                link.split_once('#').map_or((&*link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() {
                root().join(&page)
            } else {
                root().join(&page).parent().unwrap().join(file)
            };
            let there = target.exists()
                && heading.is_none_or(|heading| {
                    std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(heading))
                });
            if !there {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(seen > 50, "links were looked for and {seen} found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// `file.rs::name` in backquotes; the page says what its short forms of folders mean.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .filter_map(|span| span.split_once(".rs::"))
        .map(|(file, name)| (format!("{file}.rs"), name.to_owned()))
        .collect()
}

#[test]
fn every_test_that_the_documents_name_exists() {
    let page = "docs/what-happens-when.md";
    let named = named_tests(&read(page));
    assert!(named.len() > 40, "{page} names {} tests", named.len());
    for (file, name) in named {
        let file = SHORT
            .iter()
            .find_map(|(short, long)| Some(format!("{long}{}", file.strip_prefix(short)?)))
            .unwrap_or(file);
        let text = read(&file);
        let is_test = text.split_once(&format!("fn {name}(")).is_some_and(|(before, _)| {
            let above: Vec<&str> = before.lines().rev().take(6).collect();
            above.iter().any(|line| line.contains("test"))
        });
        assert!(is_test, "{page} names `{file}::{name}`, which is no test");
    }
}

/// Every row of the table of failures says which test shows it.
#[test]
fn every_failure_is_shown_by_a_test() {
    let text = read("docs/what-happens-when.md");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| what |") && !line.starts_with("| X |"))
        .collect();
    assert!(rows.len() > 25, "{}", rows.len());
    for row in rows {
        assert!(row.contains(".rs::"), "no test: {row}");
    }
}

/// Who is woken by an alert finds the same four things in each section.
#[test]
fn every_bad_state_of_the_runbook_says_what_to_see_to_do_and_never_to_do() {
    let text = read("docs/runbook.md");
    let (states, _) = text.split_once("\n# By hand\n").unwrap();
    let sections: Vec<&str> = states.split("\n## ").skip(1).collect();
    assert!(sections.len() > 20, "{}", sections.len());
    for section in sections {
        let name = section.lines().next().unwrap();
        for part in ["**Customers see**", "**Look.**", "**Do", "**Never**"] {
            assert!(section.contains(part), "{name} has no {part}");
        }
    }
}

/// Words of a line as a shell sees them, without redirections, pipes and comments.
fn words(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | ';' | '&') => break,
            (None, c) if c.is_whitespace() => found.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word);
    found
}

/// The command lines of a page that begin with one of these programs, continued lines joined.
fn commands(page: &str, programs: &[&str]) -> Vec<Vec<String>> {
    let (_, code) = prose_and_code(&read(page));
    let text = code.join("\n").replace("\\\n", " ");
    let lines = text.lines().map(words).filter(|words| !words.is_empty());
    lines
        .map(|words| match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["cargo", ref rest @ ..] if rest.first() == Some(&"control") => words[1..].to_vec(),
            _ => words,
        })
        .filter(|words| programs.contains(&words[0].as_str()))
        .collect()
}

/// A program of this workspace, built.
fn program(name: &str) -> PathBuf {
    testkit::process::bin(name).unwrap()
}

/// With `--help` behind it a command is parsed and not run: what it does not know ends with 2 or 64.
fn parses(page: &str, command: &[String]) {
    let mut arguments = command[1..].to_vec();
    // A help flag is one more positional where the command line has a `--`.
    assert!(!arguments.iter().any(|word| word == "--"), "{page}: {command:?}");
    arguments.push("--help".to_owned());
    let output = Command::new(program(&command[0])).args(&arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{page}: {command:?}: {stderr}");
}

#[test]
fn every_command_of_the_programs_in_the_documents_is_one_that_they_know() {
    for page in TYPED {
        let found = commands(page, &["control", "gateway"]);
        assert!(found.len() >= 4, "{page} has {} commands", found.len());
        for command in found {
            parses(page, &command);
        }
    }
}

#[test]
fn a_command_that_a_program_does_not_know_is_noticed() {
    for line in
        ["control set-wait svc1 v1=90", "control get --colour", "gateway override svc1 v1 --until 60m"]
    {
        let failed = std::panic::catch_unwind(|| parses("here", &words(line)));
        assert!(failed.is_err(), "{line}");
    }
}

/// A program of that name that does what `body` says.
fn fake(folder: &Path, name: &str, body: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// `weir` with an aws command that is not signed in: what it does not know ends with 2 before that is asked.
fn weir(command: &[String]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    fake(folder.path(), "aws", "echo 'Unable to locate credentials' >&2; exit 253");
    fake(folder.path(), "session-manager-plugin", "exit 0");
    std::fs::write(folder.path().join("app.properties.json"), "{}").unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let output = Command::new("sh")
        .arg(root().join("config/ecs/weir"))
        .args(&command[1..])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", path)
        .envs([("WEIR_CLUSTER", "my-app"), ("WEIR_LISTENER", "l"), ("WEIR_GATEWAY_TARGET_GROUP", "g")])
        .env("WEIR_STABLE_TARGET_GROUP", "s")
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What `weir` hands on to a program, as that program would get it.
fn handed_on(command: &[String]) -> Option<Vec<String>> {
    match command[1].as_str() {
        "exec" => {
            let rest = command.iter().skip_while(|word| *word != "--").skip(1).cloned().collect::<Vec<_>>();
            ["control", "gateway"].contains(&rest.first()?.as_str()).then_some(rest)
        }
        "tunnel" | "bypass" => None,
        "override" => Some([&["gateway".to_owned()], &command[1..]].concat()),
        _ => Some([&["control".to_owned()], &command[1..]].concat()),
    }
}

#[test]
fn every_command_of_weir_in_the_documents_is_one_that_it_knows() {
    let mut count = 0;
    for page in TYPED {
        for command in commands(page, &["weir"]) {
            count += 1;
            let (code, stderr) = weir(&command);
            assert_eq!(code, Some(69), "{page}: {command:?}: {stderr}");
            if let Some(inner) = handed_on(&command) {
                parses(page, &inner);
            }
        }
    }
    assert!(count > 10, "{count}");
    assert_eq!(weir(&words("weir bypass perhaps")).0, Some(2));
}

/// A folder with what somebody has who comes from App Mesh, and what control's commands of the page make of it.
fn migrated() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config_dump.json", "mesh-and-nodes.yml", "route.yml", "app.properties.json"] {
        std::fs::copy(root().join("control/tests/fixtures/import").join(file), folder.path().join(file))
            .unwrap();
    }
    let mut ran = BTreeSet::new();
    for command in commands("docs/migrating-from-app-mesh.md", &["control"]) {
        let output =
            Command::new(program("control")).args(&command[1..]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        ran.insert(command[1].clone());
    }
    assert_eq!(ran.into_iter().collect::<Vec<_>>(), ["export", "import", "init"]);
    folder
}

#[test]
fn controls_commands_of_the_migration_page_do_what_it_says() {
    let folder = migrated();
    let made = |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap();
    let imported = made("imported.yaml");
    for line in
        read("docs/migrating-from-app-mesh.md").lines().filter(|line| line.starts_with("              "))
    {
        assert!(imported.contains(line), "the page shows a line that the import does not write: {line}");
    }
    assert!(made("weir-ecs/weir.yaml").contains("weir.shop.local"));
    assert!(made("weir-ecs/weir.env").contains("WEIR_CLUSTER=shop-weir"));
}

#[test]
#[ignore = "needs the aws command"]
fn every_aws_command_in_the_documents_is_one_that_aws_knows() {
    let folder = migrated();
    fake(folder.path(), "session-manager-plugin", "exit 0");
    let path = format!("{}:{}", std::env::var("PATH").unwrap(), folder.path().display());
    let mut count = 0;
    for page in TYPED {
        for command in commands(page, &["aws"]) {
            count += 1;
            // Nobody listens there; the words of the command are looked at before that.
            let output = Command::new("aws")
                .args(&command[1..])
                .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
                .current_dir(folder.path())
                .env("PATH", &path)
                .env("AWS_MAX_ATTEMPTS", "1")
                .envs([
                    ("AWS_ACCESS_KEY_ID", "x"),
                    ("AWS_SECRET_ACCESS_KEY", "x"),
                    ("AWS_REGION", "eu-west-1"),
                ])
                .env("AWS_DEFAULT_REGION", "eu-west-1")
                .output()
                .expect("aws on PATH");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(stderr.contains("Could not connect to the endpoint"), "{page}: {command:?}: {stderr}");
        }
    }
    assert!(count > 10, "{count}");
}
