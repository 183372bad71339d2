//! `POST /logging`: the level of the log, shown and changed.
//!
//! Owns the translation of Envoy's parameters into the log's words. Next: `config_dump.rs`.

use super::endpoints::Context;
use super::reply::Reply;
use hyper::StatusCode;

/// Shows the level; `level=` sets it for all, `paths=module:level,...` for single modules beside it.
pub fn logging(context: &Context<'_>) -> Reply {
    let level = context.parameter("level").filter(|level| !level.is_empty());
    let wanted = match (level, context.parameter("paths").filter(|paths| !paths.is_empty())) {
        (None, None) => match context.query.iter().find(|(name, _)| name != "level" && name != "paths") {
            None => None,
            // Envoy also takes `?http=debug`; its logger names are not our modules.
            Some((name, _)) => return unknown(name),
        },
        (level, None) => level.map(str::to_owned),
        (level, Some(paths)) => {
            let base = level.map_or_else(|| context.process.log.level(), str::to_owned);
            Some(directives(&base, paths))
        }
    };
    if let Some(wanted) = wanted
        && let Err(error) = context.process.log.set_level(&wanted)
    {
        return Reply::text(StatusCode::BAD_REQUEST, format!("{error}\n"));
    }
    Reply::text(StatusCode::OK, active(&context.process.log.level()))
}

fn unknown(name: &str) -> Reply {
    let text = format!(
        "unknown logger `{name}`: use ?level=debug for all, or ?paths=gateway::sources:debug for a module\n"
    );
    Reply::text(StatusCode::BAD_REQUEST, text)
}

/// The level for all comes first, modules after it; a module's former level gives way.
fn directives(base: &str, paths: &str) -> String {
    let wanted: Vec<(&str, &str)> = paths.split(',').filter_map(|part| part.rsplit_once(':')).collect();
    let kept = base.split(',').filter(|part| {
        part.split_once('=').is_none_or(|(module, _)| !wanted.iter().any(|(name, _)| *name == module))
    });
    let module =
        |(name, level): &(&str, &str)| format!("{name}={}", if *level == "warning" { "warn" } else { level });
    kept.map(str::to_owned).chain(wanted.iter().map(module)).collect::<Vec<_>>().join(",")
}

fn active(level: &str) -> String {
    let mut out = String::from("active loggers:\n");
    for part in level.split(',') {
        let (name, level) = part.split_once('=').unwrap_or(("all", part));
        out.push_str(&format!("  {name}: {level}\n"));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_level_replaces_its_former_one() {
        assert_eq!(directives("info", "a::b:debug"), "info,a::b=debug");
        assert_eq!(directives("info,a::b=debug,c=trace", "a::b:warning"), "info,c=trace,a::b=warn");
    }

    #[test]
    fn the_active_levels_are_listed() {
        assert_eq!(active("info,hyper=debug"), "active loggers:\n  all: info\n  hyper: debug\n\n");
    }
}
