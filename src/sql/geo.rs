//! `geo_distance(lat1, lon1, lat2, lon2 [, unit])`: the great-circle distance of two points on earth.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::cast::as_string_array;
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

pub(crate) const NAME: &str = "geo_distance";

/// Mean radius of the earth.
const EARTH_RADIUS_KM: f64 = 6371.0;

/// Kilometres of a mile.
const KM_PER_MILE: f64 = 1.609344;

/// Distance in kilometres by the haversine formula; coordinates in degrees.
pub fn haversine_km(lat1: f64, lon1: f64, lat2: f64, lon2: f64) -> f64 {
    let half_lat = (lat2 - lat1).to_radians() / 2.0;
    let half_lon = (lon2 - lon1).to_radians() / 2.0;
    let h = half_lat.sin().powi(2) + lat1.to_radians().cos() * lat2.to_radians().cos() * half_lon.sin().powi(2);
    // Rounding may carry h of antipodes past 1.
    2.0 * EARTH_RADIUS_KM * h.sqrt().min(1.0).asin()
}

/// Kilometres in one of a unit; `None` for an unknown unit.
fn km_per(unit: &str) -> Option<f64> {
    match unit {
        "km" => Some(1.0),
        "miles" => Some(KM_PER_MILE),
        _ => None,
    }
}

/// The function as DataFusion calls it. Four DOUBLEs and a STRING, `'km'` when it is left out; strict.
pub fn geo_distance() -> ScalarUDF {
    ScalarUDF::from(GeoDistance { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GeoDistance {
    signature: Signature,
}

impl ScalarUDFImpl for GeoDistance {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let number = |t: &DataType| t.is_numeric() || t.is_null();
        let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null);
        match types {
            [points @ .., unit] if points.len() == 4 && points.iter().all(number) && text(unit) => {
                Ok([vec![DataType::Float64; 4], vec![DataType::Utf8]].concat())
            }
            points if points.len() == 4 && points.iter().all(number) => Ok(vec![DataType::Float64; 4]),
            _ => plan_err!("geo_distance takes (lat1, lon1, lat2, lon2 [, 'km' | 'miles'])"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let (points, unit) = match args.args.as_slice() {
            [points @ .., unit] if points.len() == 4 => (points, unit.clone()),
            points => (points, ColumnarValue::Scalar(ScalarValue::Utf8(Some("km".into())))),
        };
        let columns = points.iter().map(|p| p.to_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let degrees: Vec<&Float64Array> =
            columns.iter().filter_map(|c| arrow::array::AsArray::as_primitive_opt::<Float64Type>(c)).collect();
        let [lat1, lon1, lat2, lon2] = degrees.as_slice() else { return exec_err!("geo_distance takes four DOUBLEs") };
        let units = Units::new(&unit, rows)?;
        let distance = |row: usize| -> Result<Option<f64>> {
            let null = degrees.iter().any(|column| column.is_null(row));
            let Some(unit) = units.at(row)?.filter(|_| !null) else { return Ok(None) };
            Ok(Some(haversine_km(lat1.value(row), lon1.value(row), lat2.value(row), lon2.value(row)) / unit))
        };
        let distances = (0..rows).map(distance).collect::<Result<Float64Array>>()?;
        Ok(ColumnarValue::Array(Arc::new(distances)))
    }
}

/// The units of a batch: mostly one for all rows.
enum Units {
    One(Option<f64>),
    Each(ArrayRef),
}

impl Units {
    fn new(unit: &ColumnarValue, rows: usize) -> Result<Self> {
        match unit {
            ColumnarValue::Scalar(ScalarValue::Utf8(name)) => Ok(Units::One(name.as_deref().map(checked_km_per).transpose()?)),
            other => Ok(Units::Each(other.to_array(rows)?)),
        }
    }

    fn at(&self, row: usize) -> Result<Option<f64>> {
        match self {
            Units::One(unit) => Ok(*unit),
            Units::Each(names) => {
                let names = as_string_array(names)?;
                if names.is_null(row) { Ok(None) } else { checked_km_per(names.value(row)).map(Some) }
            }
        }
    }
}

fn checked_km_per(unit: &str) -> Result<f64> {
    match km_per(unit) {
        Some(km) => Ok(km),
        None => exec_err!("geo_distance has no unit '{unit}': it knows 'km' and 'miles'"),
    }
}

/// Whether `unit` is one that `geo_distance` knows, for checking a literal before it runs.
pub(crate) fn knows_unit(unit: &str) -> bool {
    km_per(unit).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distances() {
        // Paris to London, by the haversine formula on a sphere of 6371 km, computed elsewhere.
        assert!((haversine_km(48.8566, 2.3522, 51.5074, -0.1278) - 343.556).abs() < 0.01);
        assert_eq!(haversine_km(10.0, 20.0, 10.0, 20.0), 0.0);
        // Half round the earth.
        assert!((haversine_km(0.0, 0.0, 0.0, 180.0) - std::f64::consts::PI * 6371.0).abs() < 1e-9);
        assert!((haversine_km(90.0, 0.0, -90.0, 0.0) - std::f64::consts::PI * 6371.0).abs() < 1e-9);
    }
}
