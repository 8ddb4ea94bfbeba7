//! The functions that a query may call.
//!
//! The scalar ones are DataFusion's, those of them that depend on nothing but their arguments, and our own
//! `geo_distance`. Aggregates are only named here; the engine computes them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::ScalarUDF;

use super::{bounded, calendar, digest, geo, json, zones};

/// What a function makes of NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// NULL if, and only if, an argument is NULL.
    Strict,
    /// NULL only if all arguments are NULL.
    First,
    /// Never NULL.
    Never,
    /// May be NULL although no argument is.
    May,
}

/// One scalar function that is offered.
#[derive(Debug, Clone)]
pub struct Offered {
    pub udf: Arc<ScalarUDF>,
    pub nulls: Nulls,
}

/// DataFusion's functions that give NULL only for NULL.
const STRICT: &[&str] = &[
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "cbrt",
    "ceil",
    "cos",
    "cot",
    "degrees",
    "exp",
    "floor",
    "isnan",
    "iszero",
    "ln",
    "log",
    "log10",
    "log2",
    "power",
    "radians",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "gcd",
    "lcm",
    "factorial",
    "nanvl", // mathematics
    "ascii",
    "bit_length",
    "btrim",
    "chr",
    "contains",
    "ends_with",
    "levenshtein",
    "lower",
    "ltrim",
    "octet_length",
    "repeat",
    "replace",
    "rtrim",
    "split_part",
    "starts_with",
    "to_hex",
    "upper",
    "character_length",
    "find_in_set",
    "initcap",
    "left",
    "lpad",
    "reverse",
    "right",
    "rpad",
    "strpos",
    "substr",
    "substr_index",
    "translate",
    "overlay", // text
    "md5",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "digest",
    "encode", // hashes
    "date_part",
    "from_unixtime",
    "make_date",
    "make_time",
    "to_time",
    "to_unixtime",
    "to_date",
    "to_timestamp",
    "to_timestamp_seconds",
    "to_timestamp_millis",
    "to_timestamp_micros",
    "to_local_time", // time
    "regexp_like",
    "regexp_replace",
    "regexp_count",
    "regexp_instr", // patterns
];

/// Those that give NULL only when all they are given is NULL.
const FIRST: &[&str] = &["coalesce", "nvl", "greatest", "least"];

/// Those that never give NULL.
const NEVER: &[&str] = &["concat", "named_struct", "struct", "make_array", "pi", "map"];

/// Those that may give NULL for other reasons.
const MAY: &[&str] = &[
    "nullif",
    "nvl2",
    "concat_ws",
    "get_field",
    "decode",
    "regexp_match",
    "to_char",
    "array_append",
    "array_concat",
    "array_dims",
    "array_distinct",
    "array_element",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_length",
    "array_max",
    "array_min",
    "array_ndims",
    "array_pop_back",
    "array_pop_front",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_repeat",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_resize",
    "array_reverse",
    "array_slice",
    "array_sort",
    "array_to_string",
    "array_union",
    "cardinality",
    "empty",
    "flatten",
    "map_entries",
    "map_extract",
    "map_keys",
    "map_values",
    "string_to_array",
];

/// Functions that other systems have and that depend on more than their arguments.
const NOT_DETERMINISTIC: &[&str] = &[
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "today",
    "random",
    "rand",
    "uuid",
    "gen_random_uuid",
    "unix_timestamp",
    "proctime",
    "sysdate",
    "getdate",
    "version",
    "current_user",
    "session_user",
];

/// The aggregates that are carried out.
pub const AGGREGATES: &[&str] = &[
    "latest",
    "earliest",
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "stddev_pop",
    "stddev_samp",
    "var_pop",
    "var_samp",
    "array_agg",
    "string_agg",
    "bool_and",
    "bool_or",
    "approx_distinct",
    "approx_percentile",
    "histogram",
    "topk",
];

/// Other names of aggregates.
pub const AGGREGATE_ALIASES: &[(&str, &str)] = &[
    ("mean", "avg"),
    ("stddev", "stddev_samp"),
    ("variance", "var_samp"),
    ("var", "var_samp"),
    ("every", "bool_and"),
    ("listagg", "string_agg"),
    ("approx_count_distinct", "approx_distinct"),
];

/// The name of the aggregate that is called so; `None`: there is none.
pub fn aggregate(name: &str) -> Option<&'static str> {
    let alias = AGGREGATE_ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, of)| *of);
    alias.or_else(|| AGGREGATES.iter().find(|known| **known == name).copied())
}

/// Aggregates and window functions that are known and not carried out yet.
const NOT_YET: &[&str] = &[
    "approx_percentile_cont",
    "approx_median",
    "median",
    "first_value",
    "last_value",
    "nth_value",
    "corr",
    "covar_pop",
    "covar_samp",
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "collect",
    "topkdistinct",
    "latest_by_offset",
    "earliest_by_offset",
    "unnest",
    "explode",
    "grouping",
];

/// What a name means in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Scalar,
    Aggregate,
    NotYet,
    NotDeterministic,
    Unknown,
}

static OFFERED: LazyLock<BTreeMap<String, Offered>> = LazyLock::new(|| {
    let mut offered = BTreeMap::new();
    let all = datafusion_functions::all_default_functions()
        .into_iter()
        .chain(datafusion_functions_nested::all_default_nested_functions());
    for udf in all {
        let Some(nulls) = nulls_of(udf.name()) else { continue };
        for name in udf.aliases().iter().chain(std::iter::once(&udf.name().to_string())) {
            offered.insert(name.clone(), Offered { udf: bounded::bounded(udf.clone()), nulls });
        }
    }
    for own in json::all().into_iter().chain(digest::all()).chain(calendar::all()).chain([zones::own()]) {
        let nulls = if own.strict { Nulls::Strict } else { Nulls::May };
        offered.insert(own.name.into(), Offered { udf: Arc::new(own.udf()), nulls });
    }
    offered.insert(geo::NAME.into(), Offered { udf: Arc::new(geo::geo_distance()), nulls: Nulls::Strict });
    offered
});

fn nulls_of(name: &str) -> Option<Nulls> {
    let lists = [(STRICT, Nulls::Strict), (FIRST, Nulls::First), (NEVER, Nulls::Never), (MAY, Nulls::May)];
    lists.into_iter().find(|(names, _)| names.contains(&name)).map(|(_, nulls)| nulls)
}

/// The scalar function of that name (lower case), if it is offered.
pub fn scalar(name: &str) -> Option<&'static Offered> {
    OFFERED.get(name)
}

/// The names of all scalar functions, aliases included, in alphabetical order.
pub fn scalar_names() -> impl Iterator<Item = &'static str> {
    OFFERED.keys().map(String::as_str)
}

/// What `name` (lower case) means in a call.
pub fn meaning(name: &str) -> Meaning {
    match name {
        _ if aggregate(name).is_some() => Meaning::Aggregate,
        _ if NOT_DETERMINISTIC.contains(&name) => Meaning::NotDeterministic,
        _ if scalar(name).is_some() => Meaning::Scalar,
        _ if NOT_YET.contains(&name) => Meaning::NotYet,
        _ => Meaning::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_exists_in_datafusion() {
        let missing: Vec<&str> = [STRICT, FIRST, NEVER, MAY].concat().into_iter().filter(|name| scalar(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn nothing_that_is_offered_is_volatile() {
        for name in scalar_names() {
            let volatility = scalar(name).map(|o| o.udf.signature().volatility);
            assert_eq!(volatility, Some(datafusion_expr::Volatility::Immutable), "{name}");
        }
    }

    #[test]
    fn an_aggregate_is_no_scalar_function() {
        let both: Vec<&&str> = AGGREGATES.iter().filter(|name| scalar(name).is_some()).collect();
        assert!(both.is_empty(), "{both:?}");
        assert!(AGGREGATE_ALIASES.iter().all(|(alias, of)| AGGREGATES.contains(of) && !AGGREGATES.contains(alias)));
    }

    #[test]
    fn strict_functions_are_known_as_such_by_datafusion_or_by_us() {
        assert_eq!(meaning("now"), Meaning::NotDeterministic);
        assert_eq!(meaning("latest"), Meaning::Aggregate);
        assert_eq!(meaning("stddev"), Meaning::Aggregate);
        assert_eq!(meaning("corr"), Meaning::NotYet);
        assert_eq!(meaning("substring"), Meaning::Scalar);
        assert_eq!(meaning("foo"), Meaning::Unknown);
    }
}
