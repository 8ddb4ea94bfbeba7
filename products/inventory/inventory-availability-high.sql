-- Stations at least three quarters full. The surplus is what stands there above half the capacity.
SELECT
  station_id,
  name,
  region_name,
  lat,
  lon,
  capacity,
  num_bikes_available,
  num_docks_available,
  num_bikes_available - capacity / 2 AS surplus,
  CASE WHEN capacity <> 0 THEN round(CAST(num_bikes_available AS DOUBLE) / capacity, 2) END AS percent_available
FROM stations_enriched
WHERE capacity + num_bikes_available + num_docks_available <> 0
  AND num_bikes_available >= round(0.75 * capacity)
