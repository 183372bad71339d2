//! App Mesh's paths: which kind of resource, which one, and what the request does with it.
//!
//! From the service model (2019-01-25); note `virtualRouter` and `virtualGateway`, singular, above routes. Read `app_mesh` next.

use http::Method;

/// The seven kinds of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ResourceKind {
    Mesh,
    VirtualNode,
    VirtualRouter,
    VirtualService,
    VirtualGateway,
    Route,
    GatewayRoute,
}

use ResourceKind::{GatewayRoute, Mesh, Route, VirtualGateway, VirtualNode, VirtualRouter, VirtualService};

impl ResourceKind {
    /// Its name in camel case: the singular of its collection, and the stem of its name field.
    pub(super) fn word(self) -> &'static str {
        match self {
            Mesh => "mesh",
            VirtualNode => "virtualNode",
            VirtualRouter => "virtualRouter",
            VirtualService => "virtualService",
            VirtualGateway => "virtualGateway",
            Route => "route",
            GatewayRoute => "gatewayRoute",
        }
    }

    /// Its collection's name, in paths and in list answers.
    pub(super) fn collection(self) -> String {
        format!("{}{}", self.word(), if self == Mesh { "es" } else { "s" })
    }

    /// The kind that owns it besides the mesh.
    pub(super) fn parent(self) -> Option<Self> {
        match self {
            Route => Some(VirtualRouter),
            GatewayRoute => Some(VirtualGateway),
            _ => None,
        }
    }

    fn of_collection(word: &str) -> Option<Self> {
        let all = [Mesh, VirtualNode, VirtualRouter, VirtualService, VirtualGateway, Route, GatewayRoute];
        all.into_iter().find(|kind| kind.collection() == word)
    }
}

/// What a path names: a collection (no `name`) or one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) kind: ResourceKind,
    /// The mesh; for a mesh itself, its own name.
    pub(super) mesh: String,
    /// The virtual router or gateway that owns it; empty for other kinds.
    pub(super) parent: String,
    pub(super) name: String,
}

impl Address {
    pub(super) fn new(kind: ResourceKind, mesh: &str, parent: &str, name: &str) -> Self {
        Self { kind, mesh: mesh.to_owned(), parent: parent.to_owned(), name: name.to_owned() }
    }

    pub(super) fn mesh(name: &str) -> Self {
        Self::new(Mesh, name, "", name)
    }

    /// The ARN, as the API documents it.
    pub(super) fn arn(&self) -> String {
        let Self { kind, mesh, parent, name } = self;
        let mesh = format!("arn:aws:appmesh:eu-west-1:123456789012:mesh/{mesh}");
        match (kind, kind.parent()) {
            (Mesh, _) => mesh,
            (_, None) => format!("{mesh}/{}/{name}", kind.word()),
            (_, Some(above)) => format!("{mesh}/{}/{parent}/{}/{name}", above.word(), kind.word()),
        }
    }
}

/// Takes a path apart; None if it is none of App Mesh's. Tag paths are not resources.
pub(super) fn parse(path: &str) -> Option<Address> {
    let rest = path.strip_prefix("/v20190125/")?;
    let parts: Vec<String> = rest.split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match *parts.as_slice() {
        ["meshes"] => Some(Address::mesh("")),
        ["meshes", mesh] => Some(Address::mesh(mesh)),
        ["meshes", mesh, "virtualRouter", parent, "routes"] => Some(Address::new(Route, mesh, parent, "")),
        ["meshes", mesh, "virtualRouter", parent, "routes", name] => {
            Some(Address::new(Route, mesh, parent, name))
        }
        ["meshes", mesh, "virtualGateway", parent, "gatewayRoutes"] => {
            Some(Address::new(GatewayRoute, mesh, parent, ""))
        }
        ["meshes", mesh, "virtualGateway", parent, "gatewayRoutes", name] => {
            Some(Address::new(GatewayRoute, mesh, parent, name))
        }
        ["meshes", mesh, collection] => plain(collection).map(|kind| Address::new(kind, mesh, "", "")),
        ["meshes", mesh, collection, name] => {
            plain(collection).map(|kind| Address::new(kind, mesh, "", name))
        }
        _ => None,
    }
}

/// The kinds that live directly below a mesh.
fn plain(collection: &str) -> Option<ResourceKind> {
    ResourceKind::of_collection(collection).filter(|kind| *kind != Mesh && kind.parent().is_none())
}

/// The operation's name in the service model.
pub(super) fn operation(method: &Method, path: &str) -> Option<String> {
    match path {
        "/v20190125/tags" => return Some("ListTagsForResource".to_owned()),
        "/v20190125/tag" => return Some("TagResource".to_owned()),
        "/v20190125/untag" => return Some("UntagResource".to_owned()),
        _ => {}
    }
    let address = parse(path)?;
    let verb = match (method, address.name.is_empty()) {
        (&Method::PUT, true) => "Create",
        (&Method::GET, true) => "List",
        (&Method::GET, false) => "Describe",
        (&Method::PUT, false) => "Update",
        (&Method::DELETE, false) => "Delete",
        _ => return None,
    };
    let word = if verb == "List" { address.kind.collection() } else { address.kind.word().to_owned() };
    let (first, rest) = word.split_at_checked(1)?;
    Some(format!("{verb}{}{rest}", first.to_ascii_uppercase()))
}

/// Undoes percent-encoding; what is none stays.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One decoded value of a query string.
pub(super) fn query(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_the_service_model_says() {
        let route = "/v20190125/meshes/my%20mesh/virtualRouter/r%2F1/routes/%zz";
        assert_eq!(parse(route), Some(Address::new(Route, "my mesh", "r/1", "%zz")));
        let arn = "arn:aws:appmesh:eu-west-1:123456789012:mesh/m/virtualRouter/r/route/x";
        assert_eq!(Address::new(Route, "m", "r", "x").arn(), arn);
        for (method, path, name) in [
            (Method::PUT, "meshes", "CreateMesh"),
            (Method::GET, "meshes", "ListMeshes"),
            (Method::GET, "meshes/m/virtualNodes/n", "DescribeVirtualNode"),
            (Method::PUT, "meshes/m/virtualRouter/r/routes/x", "UpdateRoute"),
            (Method::GET, "meshes/m/virtualGateway/g/gatewayRoutes", "ListGatewayRoutes"),
            (Method::DELETE, "meshes/m/virtualServices/s", "DeleteVirtualService"),
            (Method::PUT, "tag", "TagResource"),
        ] {
            assert_eq!(operation(&method, &format!("/v20190125/{path}")).as_deref(), Some(name));
        }
        for (method, path) in [
            (Method::GET, "/v20190125/meshes/m/virtualRouters/r/routes"),
            (Method::GET, "/v20190125/meshes/m/routes"),
            (Method::POST, "/v20190125/meshes"),
            (Method::DELETE, "/v20190125/meshes"),
            (Method::GET, "/"),
        ] {
            assert_eq!(operation(&method, path), None, "{path}");
        }
    }
}
