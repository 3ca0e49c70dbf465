-- The statements of the DuckDB store. {alleles}, {locations} and {sequence_references} stand for the
-- tables' quoted names; the tables are those that AnyVar's object-relational mapping makes in DuckDB.

-- name: columns
SELECT column_name, data_type, is_nullable = 'NO' AND column_default IS NULL
FROM information_schema.columns
WHERE table_catalog = current_catalog() AND table_schema = current_schema() AND table_name = $name

-- name: create_molecule_type
CREATE TYPE IF NOT EXISTS molecule_type AS ENUM ('genomic', 'RNA', 'mRNA', 'protein')

-- name: create_sequence_references
CREATE TABLE {sequence_references} (
    id VARCHAR NOT NULL,
    molecule_type molecule_type,
    PRIMARY KEY (id)
)

-- name: create_locations
CREATE TABLE {locations} (
    id VARCHAR NOT NULL,
    sequence_reference_id VARCHAR NOT NULL,
    start_pos INTEGER,
    end_pos INTEGER,
    start_outer INTEGER,
    start_inner INTEGER,
    end_outer INTEGER,
    end_inner INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY (sequence_reference_id) REFERENCES {sequence_references} (id)
)

-- name: create_alleles
CREATE TABLE {alleles} (
    id VARCHAR NOT NULL,
    location_id VARCHAR NOT NULL,
    state JSON NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_id) REFERENCES {locations} (id)
)

-- name: unknown
SELECT u.id FROM (SELECT unnest(string_split($ids, ',')) AS id) u ANTI JOIN {alleles} a ON a.id = u.id

-- name: insert_sequence_references
INSERT INTO {sequence_references} (id)
SELECT unnest(string_split($ids, ','))
ON CONFLICT DO NOTHING

-- name: insert_locations
INSERT INTO {locations} (id, sequence_reference_id, start_pos, end_pos)
SELECT unnest(string_split($ids, ',')), unnest(string_split($sequences, ',')),
    unnest(string_split($starts, ','))::INTEGER, unnest(string_split($ends, ','))::INTEGER
ON CONFLICT DO NOTHING

-- name: insert_alleles
INSERT INTO {alleles} (id, location_id, state)
SELECT unnest(string_split($ids, ',')), unnest(string_split($locations, ',')),
    unnest(string_split($states, chr(10)))::JSON
ON CONFLICT DO NOTHING
