//! Which base images the Dockerfile asks for.
//!
//! Owns the reading of its `ARG` and `FROM` lines; must never build anything. Next: `base.rs`, which makes them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// What the Dockerfile says about its base images.
#[derive(Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The image with the Rust toolchain.
    pub builder: String,
    /// The image that the programs are put into.
    pub runtime: String,
    /// Debian's release, such as `trixie`.
    pub debian: String,
}

impl Dockerfile {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut values = BTreeMap::new();
        let mut bases = Vec::new();
        for line in text.lines() {
            if let Some(image) = line.strip_prefix("FROM ") {
                let image = image.split(' ').find(|word| !word.starts_with("--")).unwrap_or_default();
                bases.push(expand(image, &values));
            } else if let Some((name, value)) = line.strip_prefix("ARG ").and_then(|arg| arg.split_once('='))
                && bases.is_empty()
            {
                values.insert(name.to_owned(), value.to_owned());
            }
        }
        let [builder, runtime] = bases.as_slice() else {
            bail!("the Dockerfile has {} stages; this check knows a builder and a runtime", bases.len());
        };
        let debian = values.get("DEBIAN").context("the Dockerfile does not say `ARG DEBIAN=`")?;
        if !builder.starts_with("rust:") || *runtime != format!("debian:{debian}-slim") {
            bail!(
                "the base images are {builder} and {runtime}; this check can make stand-ins for rust: and debian:{debian}-slim"
            );
        }
        Ok(Self { builder: builder.clone(), runtime: runtime.clone(), debian: debian.clone() })
    }
}

/// Puts the values of `ARG` lines into a text with `${NAME}`.
fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_dockerfile() {
        let root = crate::workspace::root().unwrap();
        let read = Dockerfile::read(&root.join("Dockerfile")).unwrap();
        assert!(read.builder.ends_with(&format!("-slim-{}", read.debian)), "{read:?}");
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let version = manifest.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next());
        assert!(read.builder.starts_with(&format!("rust:{}-", version.unwrap())), "{read:?}: another Rust");
    }

    #[test]
    fn arguments_are_put_in_and_flags_of_from_passed_over() {
        let text = "ARG V=1.2\nARG DEBIAN=sid\nFROM --platform=x rust:${V}-slim-${DEBIAN} AS builder\nARG V=no\nFROM debian:${DEBIAN}-slim\n";
        let read = Dockerfile::parse(text).unwrap();
        assert_eq!((read.builder.as_str(), read.runtime.as_str()), ("rust:1.2-slim-sid", "debian:sid-slim"));
    }

    #[test]
    fn a_base_image_that_cannot_be_made_is_named() {
        for text in ["FROM a\n", "ARG DEBIAN=sid\nFROM rust:1-slim-sid AS builder\nFROM alpine:3\n"] {
            let error = Dockerfile::parse(text).unwrap_err().to_string();
            assert!(error.contains("stages") || error.contains("alpine:3"), "{error}");
        }
    }
}
