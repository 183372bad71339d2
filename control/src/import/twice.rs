//! Resources that several files have.
//!
//! Owns what "the same" is: one from two files counts once, two different ones of one name are an error. It must never
//! prefer a file. Next: `translate.rs`.

use super::model::{GatewayRoute, Model, Route};
use super::notes::{Notes, Place};

/// Leaves each resource once.
pub(super) fn once_each(model: &mut Model, notes: &mut Notes) {
    let Model { nodes, services, routes, gateways, gateway_routes, routers: _ } = model;
    once(nodes, "virtual node", |node| (format!("{}/{}", node.mesh, node.name), &mut node.place), notes);
    once(
        services,
        "virtual service",
        |item| (format!("{}/{}", item.mesh, item.name), &mut item.place),
        notes,
    );
    once(
        gateways,
        "virtual gateway",
        |item| (format!("{}/{}", item.mesh, item.name), &mut item.place),
        notes,
    );
    once(routes, "route", route, notes);
    once(gateway_routes, "gateway route", gateway_route, notes);
}

fn route(route: &mut Route) -> (String, &mut Place) {
    let name = format!("{}/{}/{}{}", route.mesh, route.router, route.name, order(&route.place));
    (name, &mut route.place)
}

fn gateway_route(route: &mut GatewayRoute) -> (String, &mut Place) {
    let host = route.matches.host.as_ref().filter(|_| route.own_host_only);
    let name = format!("{}/{}/{}{}{host:?}", route.mesh, route.gateway, route.name, order(&route.place));
    (name, &mut route.place)
}

fn once<T: Clone + PartialEq>(
    items: &mut Vec<T>,
    word: &str,
    key: impl Fn(&mut T) -> (String, &mut Place),
    notes: &mut Notes,
) {
    let mut kept: Vec<(String, T)> = Vec::new();
    for mut item in items.drain(..) {
        let (name, place) = key(&mut item);
        let here = place.clone();
        let Some((_, first)) = kept.iter_mut().find(|(known, _)| *known == name) else {
            kept.push((name, item));
            continue;
        };
        let there = key(first).1.clone();
        key(&mut item).1.clone_from(&there);
        if item == *first {
            notes.note(&here, format!("{word} `{name}` is the same as in {there}"));
        } else {
            notes.error(&here, format!("another {word} `{name}` than in {there}: give one of the two"));
        }
    }
    items.extend(kept.into_iter().map(|(_, item)| item));
}

/// An Envoy's routes have no names, only their order: the place in a dump tells them apart.
fn order(place: &Place) -> String {
    if place.at.starts_with("rds_") { place.at.clone() } else { String::new() }
}
