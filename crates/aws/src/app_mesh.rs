//! App Mesh: one route, described and given other weights.
//!
//! Owns DescribeRoute and UpdateRoute. It must never send back anything of a route's specification but what was
//! described, the weights excepted, and never make weights. App Mesh has no compare-and-set: what happened
//! between the two calls is told by the version, and judged by the caller. Source: AWS App Mesh API reference.
//! Next: `ecs.rs`.

use crate::error::{Call, Error, Operation};
use crate::sdk::Source;
use aws_sdk_appmesh::Client;
use aws_sdk_appmesh::types::{RouteData, RouteSpec, WeightedTarget};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

const DESCRIBE: Operation = Operation {
    name: "DescribeRoute",
    action: "appmesh:DescribeRoute",
    endpoint_variable: "AWS_ENDPOINT_URL_APP_MESH",
    look_at: "the names of mesh, virtual router and route, the mesh owner",
};
const UPDATE: Operation = Operation { name: "UpdateRoute", action: "appmesh:UpdateRoute", ..DESCRIBE };

/// The client. Cheap to clone; clones share connections and credentials.
#[derive(Clone, Debug)]
pub struct AppMesh {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: Source,
    client: OnceCell<Client>,
}

/// Names one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteRef {
    /// Name of the mesh.
    pub mesh: String,
    /// Name of the virtual router.
    pub virtual_router: String,
    /// Name of the route.
    pub route: String,
    /// Account id of the owner when the mesh is shared by another account.
    pub mesh_owner: Option<String>,
}

impl std::fmt::Display for RouteRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "route `{}` of virtual router `{}` in mesh `{}`",
            self.route, self.virtual_router, self.mesh
        )
    }
}

/// A route as it was described, or as an update left it.
#[derive(Clone, Debug)]
pub struct Route {
    /// 1 when created, one more with each update.
    pub version: i64,
    /// Changes when the route is deleted and made anew.
    pub uid: String,
    /// Weight by virtual node, 0 to 100 each.
    pub weights: BTreeMap<String, i32>,
    route: RouteRef,
    spec: RouteSpec,
}

impl AppMesh {
    /// A client with region, credentials and endpoint from the environment, as every AWS tool takes them. They
    /// are looked for at the first call, not now.
    pub async fn from_env() -> Self {
        Self::with_source(Source::Environment)
    }

    /// A client of one endpoint, for a stand-in: it signs with keys that are worth nothing.
    pub fn for_endpoint(url: impl Into<String>) -> Self {
        Self::with_source(Source::Endpoint(url.into()))
    }

    fn with_source(source: Source) -> Self {
        Self { shared: Arc::new(Shared { source, client: OnceCell::new() }) }
    }

    async fn client(&self, call: &Call) -> Result<&Client, Error> {
        let Shared { source, client } = &*self.shared;
        client.get_or_try_init(|| async { Ok(Client::new(&source.load(call).await?)) }).await
    }

    /// DescribeRoute.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn describe_route(&self, route: &RouteRef) -> Result<Route, Error> {
        let call = Call { operation: DESCRIBE, asked: route.to_string() };
        let answer = self
            .client(&call)
            .await?
            .describe_route()
            .mesh_name(&route.mesh)
            .virtual_router_name(&route.virtual_router)
            .route_name(&route.route)
            .set_mesh_owner(route.mesh_owner.clone())
            .send()
            .await
            .map_err(|error| call.clone().failed(&error))?;
        Route::read(route, answer.route).map_err(|detail| call.other(detail, true))
    }

    /// UpdateRoute: the described specification with other weights. A virtual node that `weights` does not name
    /// keeps its weight. Answers the route as the update left it; its version is the described one + 1 unless
    /// somebody else wrote in between.
    ///
    /// # Errors
    /// [`Error::Other`] without a call when `weights` names a virtual node that the route does not have or has
    /// twice; else [`Error`]. After [`Error::Timeout`] and [`Error::Unreachable`] the update may have happened.
    pub async fn update_weights(
        &self,
        route: &Route,
        weights: &BTreeMap<String, i32>,
    ) -> Result<Route, Error> {
        let call = Call { operation: UPDATE, asked: route.route.to_string() };
        let mut spec = route.spec.clone();
        set_weights(&mut spec, weights).map_err(|detail| call.clone().other(detail, false))?;
        let RouteRef { mesh, virtual_router, route: name, mesh_owner } = &route.route;
        let answer = self
            .client(&call)
            .await?
            .update_route()
            .mesh_name(mesh)
            .virtual_router_name(virtual_router)
            .route_name(name)
            .set_mesh_owner(mesh_owner.clone())
            .spec(spec)
            .send()
            .await
            .map_err(|error| call.clone().failed(&error))?;
        Route::read(&route.route, answer.route).map_err(|detail| call.other(detail, true))
    }
}

impl Route {
    fn read(route: &RouteRef, data: Option<RouteData>) -> Result<Self, String> {
        let data = data.ok_or("the answer holds no route")?;
        let metadata = data.metadata.ok_or("the answer holds no metadata, so no version")?;
        let spec = data.spec.ok_or("the answer holds no specification")?;
        let mut weights = BTreeMap::new();
        for target in weighted_targets(&spec) {
            let sum: &mut i32 = weights.entry(target.virtual_node.clone()).or_default();
            *sum = sum.saturating_add(target.weight);
        }
        Ok(Self { version: metadata.version, uid: metadata.uid, weights, route: route.clone(), spec })
    }
}

/// The targets of whichever type the route is of.
fn weighted_targets(spec: &RouteSpec) -> impl Iterator<Item = &WeightedTarget> {
    let http = [&spec.http_route, &spec.http2_route]
        .into_iter()
        .filter_map(|route| route.as_ref()?.action.as_ref())
        .flat_map(|action| &action.weighted_targets);
    let tcp = spec.tcp_route.iter().filter_map(|route| route.action.as_ref());
    let grpc = spec.grpc_route.iter().filter_map(|route| route.action.as_ref());
    http.chain(tcp.flat_map(|action| &action.weighted_targets))
        .chain(grpc.flat_map(|action| &action.weighted_targets))
}

fn weighted_targets_mut(spec: &mut RouteSpec) -> impl Iterator<Item = &mut WeightedTarget> {
    let http = [&mut spec.http_route, &mut spec.http2_route]
        .into_iter()
        .filter_map(|route| route.as_mut()?.action.as_mut())
        .flat_map(|action| &mut action.weighted_targets);
    let tcp = spec.tcp_route.iter_mut().filter_map(|route| route.action.as_mut());
    let grpc = spec.grpc_route.iter_mut().filter_map(|route| route.action.as_mut());
    http.chain(tcp.flat_map(|action| &mut action.weighted_targets))
        .chain(grpc.flat_map(|action| &mut action.weighted_targets))
}

fn set_weights(spec: &mut RouteSpec, weights: &BTreeMap<String, i32>) -> Result<(), String> {
    for node in weights.keys() {
        let times = weighted_targets(spec).filter(|target| target.virtual_node == *node).count();
        if times != 1 {
            let known: Vec<_> = weighted_targets(spec).map(|target| target.virtual_node.as_str()).collect();
            return Err(format!(
                "virtual node `{node}` occurs {times} times among the route's weighted targets ({}) and must occur once: correct the route or the configured virtual nodes",
                known.join(", ")
            ));
        }
    }
    for target in weighted_targets_mut(spec) {
        if let Some(weight) = weights.get(&target.virtual_node) {
            target.weight = *weight;
        }
    }
    Ok(())
}
