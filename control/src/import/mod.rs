//! `control import`: from what is left of App Mesh to a configuration of control.
//!
//! Owns the order of the steps: read each file, join them into one model, translate, write, validate. Nothing is
//! guessed: what is not known is an error with its place; what Weir does not do is named. It must never read a file
//! itself. Next: `model.rs` (App Mesh's words), then `translate.rs`.

mod api_json;
mod app_properties;
mod cloudformation;
mod combine;
mod dump;
mod dump_routes;
mod emit;
mod fields;
mod intrinsic;
mod matching;
mod model;
mod naming;
mod notes;
mod plan;
mod spec;
mod translate;
mod tree;
mod twice;

pub use notes::{Kind as NoteKind, Note, Place};

use gateway_config::MAX_FILE_BYTES;
use gateway_config::control_config::parse_control;
use intrinsic::Templates;
use model::Model;
use notes::Notes;
use serde_json::Value;
use spec::Resource;
use std::cell::RefCell;

/// Largest file: a config_dump of a mesh with hundreds of services has a few MiB.
pub const MAX_INPUT_BYTES: usize = 32 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FileKind {
    /// Told by its content.
    #[default]
    Auto,
    /// A CloudFormation template or Copilot add-on, YAML or JSON.
    Cloudformation,
    /// app.properties.json of the deployment pipeline.
    AppProperties,
    /// Answers of `aws appmesh describe-*`, one or several in a file.
    AppMeshJson,
    /// `terraform show -json`.
    Terraform,
    /// GET /config_dump of an App Mesh Envoy.
    ConfigDump,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Input {
    /// As named on the command line.
    pub name: String,
    /// Its content.
    pub text: Vec<u8>,
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the files are.
    pub kind: FileKind,
    /// Values of template parameters, and of `Resource.Attribute` that only CloudFormation knows.
    pub parameters: Vec<(String, String)>,
    /// Which virtual gateway, when there are several.
    pub gateway: Option<String>,
    /// Also when requests are answered wrongly without what is left out.
    pub allow_partial: bool,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Imported {
    /// By kind, then in the order of the files.
    pub notes: Vec<Note>,
    /// Control's configuration; none after an error.
    pub config: Option<String>,
}

/// A YAML document as JSON; for tests of what is written.
#[cfg(test)]
pub(crate) fn yaml_to_json(text: &str) -> Option<Value> {
    tree::read(text).ok().map(|node| node.to_json())
}

/// What a file turned out to be.
enum Document {
    Template(tree::Node),
    Json(FileKind, Vec<Value>),
}

/// Imports files that belong together.
pub fn import(inputs: &[Input], options: &Options) -> Imported {
    let notes = RefCell::new(Notes::default());
    let documents: Vec<(&Input, Document)> = inputs
        .iter()
        .filter_map(|input| {
            read(input, options.kind, &mut notes.borrow_mut()).map(|document| (input, document))
        })
        .collect();
    // Half a file is no import: what is missing would be named as missing resources.
    let config = if notes.borrow().is_good(true) { config(&documents, options, &notes) } else { None };
    Imported { notes: notes.borrow().sorted(), config }
}

fn config(documents: &[(&Input, Document)], options: &Options, notes: &RefCell<Notes>) -> Option<String> {
    let mut model = Model::default();
    for resource in resources(documents, options, notes, &mut model) {
        spec::read(&resource, notes, &mut model);
    }
    let mut notes = notes.borrow_mut();
    twice::once_each(&mut model, &mut notes);
    for (input, value) in of_kind(documents, FileKind::AppProperties) {
        app_properties::apply(value, &Place::file(&input.name), &mut model, &mut notes);
    }
    if !notes.is_good(true) {
        return None;
    }
    let names: Vec<String> = documents.iter().map(|(input, _)| input.name.clone()).collect();
    let all = Place::file(&names.join(", "));
    let plan = translate::plan(&model, options.gateway.as_deref(), &all, &mut notes)?;
    if !notes.is_good(options.allow_partial) {
        return None;
    }
    let text = emit::text(&plan, &names);
    if let Err(diagnostics) = parse_control("the imported configuration", text.as_bytes()) {
        notes.error(&all, format!("what was imported is not a valid configuration:\n{diagnostics}"));
        return None;
    }
    Some(text)
}

fn of_kind<'a>(
    documents: &'a [(&'a Input, Document)],
    wanted: FileKind,
) -> impl Iterator<Item = (&'a Input, &'a Value)> {
    let values = move |(input, document): &'a (&'a Input, Document)| {
        let values = match document {
            Document::Json(kind, values) if *kind == wanted => values.as_slice(),
            _ => &[],
        };
        values.iter().map(move |value| (*input, value))
    };
    documents.iter().flat_map(values)
}

fn resources(
    documents: &[(&Input, Document)],
    options: &Options,
    notes: &RefCell<Notes>,
    model: &mut Model,
) -> Vec<Resource> {
    let notes = &mut notes.borrow_mut();
    let mut templates = Templates::default();
    let has_template = documents.iter().any(|(_, document)| matches!(document, Document::Template(_)));
    for (input, value) in of_kind(documents, FileKind::AppProperties) {
        templates.given.extend(app_properties::parameters(value));
        if has_template {
            app_properties::say_parameters(value, &Place::file(&input.name), notes);
        }
    }
    templates.given.extend(options.parameters.iter().cloned());
    for (input, document) in documents {
        if let Document::Template(root) = document {
            cloudformation::add(&mut templates, &input.name, root, notes);
        }
    }
    let mut found = cloudformation::resources(&templates, notes);
    for (input, value) in of_kind(documents, FileKind::AppMeshJson) {
        api_json::app_mesh(value, &Place::file(&input.name), notes, &mut found);
    }
    for (input, value) in of_kind(documents, FileKind::Terraform) {
        api_json::terraform(value, &Place::file(&input.name), notes, &mut found);
    }
    for (input, value) in of_kind(documents, FileKind::ConfigDump) {
        dump::read(value, &Place::file(&input.name), notes, model);
    }
    found
}

/// Reads one file as what it is.
fn read(input: &Input, kind: FileKind, notes: &mut Notes) -> Option<Document> {
    let place = Place::file(&input.name);
    if input.text.len() > MAX_INPUT_BYTES {
        notes.error(&place, format!("the file is larger than {} MiB", MAX_INPUT_BYTES >> 20));
        return None;
    }
    let Ok(text) = std::str::from_utf8(&input.text) else {
        notes.error(&place, "the file is not UTF-8 text");
        return None;
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        notes.error(&place, "the file is empty");
        return None;
    }
    // YAML may begin with a bracket too, but a template written so is JSON.
    if text.trim_start().starts_with(['{', '[']) {
        return json(text, kind, &place, notes);
    }
    yaml(text, kind, &place, notes)
}

fn yaml(text: &str, kind: FileKind, place: &Place, notes: &mut Notes) -> Option<Document> {
    if text.len() > MAX_FILE_BYTES {
        notes.error(
            place,
            format!("the template is larger than CloudFormation takes ({} MiB)", MAX_FILE_BYTES >> 20),
        );
        return None;
    }
    let node = match tree::read(text) {
        Ok(node) => node,
        Err(fault) => {
            let place = Place { line: fault.line, ..place.clone() };
            notes.error(&place, format!("{}; is the file whole?", fault.text));
            return None;
        }
    };
    if matches!(kind, FileKind::Auto | FileKind::Cloudformation) && cloudformation::is_template(&node) {
        return Some(Document::Template(node));
    }
    unknown(kind, place, notes)
}

fn json(text: &str, kind: FileKind, place: &Place, notes: &mut Notes) -> Option<Document> {
    let mut values = Vec::new();
    // Several answers one after another are what a loop over `aws appmesh describe-...` writes.
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value {
            Ok(value) => values.push(value),
            Err(error) => {
                let place = Place { line: error.line(), ..place.clone() };
                notes.error(&place, format!("this is not JSON: {error}; is the file whole?"));
                return None;
            }
        }
    }
    let first = values.first()?;
    let node = tree::Node::from_json(first);
    let is_template = cloudformation::is_template(&node);
    let found = match kind {
        FileKind::Auto if is_template => FileKind::Cloudformation,
        FileKind::Auto if dump::is_dump(first) => FileKind::ConfigDump,
        FileKind::Auto if first.get("values").or(first.get("planned_values")).is_some() => {
            FileKind::Terraform
        }
        FileKind::Auto if api_json::is_app_mesh(first) => FileKind::AppMeshJson,
        FileKind::Auto if app_properties::is_properties(first) => FileKind::AppProperties,
        kind => kind,
    };
    match found {
        FileKind::Cloudformation if is_template => Some(Document::Template(node)),
        FileKind::Auto | FileKind::Cloudformation => unknown(kind, place, notes),
        FileKind::ConfigDump if !dump::is_dump(first) => unknown(kind, place, notes),
        found => Some(Document::Json(found, values)),
    }
}

fn unknown(kind: FileKind, place: &Place, notes: &mut Notes) -> Option<Document> {
    let text = match kind {
        FileKind::Auto => "this is neither a template with Resources, app.properties.json, App Mesh JSON, `terraform show -json` nor a config_dump".to_owned(),
        kind => format!("this is not what --kind {} says", clap::ValueEnum::to_possible_value(&kind).map(|value| value.get_name().to_owned()).unwrap_or_default()),
    };
    notes.error(place, text);
    None
}
