// Checks parameters and sample sheets against their JSON schemas, without a plugin.
//
// Understood is what the two schemas use: type, enum, pattern with its errorMessage, minimum, exists and required;
// what they do not list is "unknown parameter". The other keywords are for nf-schema and launch forms.

import groovy.json.JsonSlurper
import java.nio.file.Files
import nextflow.Nextflow

class Parameters {

    // One line for each wrong parameter, beginning with its key; none where all is well.
    static List<String> problems(Map params, String schemaText) {
        def schema = new JsonSlurper().parseText(schemaText)
        def groups = schema['$defs'].values()
        def known = groups.collectEntries { it.properties }
        def wrong = (params.keySet() - known.keySet()).findAll { !it.contains('-') }
            .collect { "${it}: unknown parameter${hint(it, known.keySet())}" as String }
        groups.each { group ->
            wrong += (group.required ?: []).findAll { isEmpty(params[it]) }.collect { "${it}: required" as String }
        }
        known.each { key, rule ->
            def reason = isEmpty(params[key]) ? null : reasonAgainst(params[key], rule)
            if (reason) {
                wrong << ("${key}: ${reason}" as String)
            }
        }
        if (params.local && isEmpty(params.reference)) {
            wrong << 'reference: required with --local'
        }
        if (params.submit_first && (params.local || params.ingest)) {
            wrong << "submit_first: not together with --${params.local ? 'local' : 'ingest'}".toString()
        }
        return wrong
    }

    // One line for each wrong row, with the sheet and the line number (the header is line 1).
    static List<String> sheetProblems(List<Map> rows, String schemaText, String sheet) {
        def rule = new JsonSlurper().parseText(schemaText).items
        if (!rows) {
            return ["${sheet}: no samples" as String]
        }
        def missing = rule.required.findAll { !rows[0].containsKey(it) }
        if (missing) {
            return ["${sheet}: missing column ${missing.join(', ')} (comma-separated)" as String]
        }
        def wrong = []
        def seen = [] as Set
        rows.eachWithIndex { row, index ->
            rule.properties.each { column, columnRule ->
                def reason = isEmpty(row[column]) ? 'required' : reasonAgainst(row[column], columnRule)
                if (reason) {
                    wrong << ("${sheet}, line ${index + 2}: ${column}: ${reason}" as String)
                }
            }
            if (!seen.add(row.sample)) {
                wrong << ("${sheet}, line ${index + 2}: sample: duplicate ${row.sample}" as String)
            }
        }
        return wrong
    }

    // What a person may set, as text for --help.
    static String help(String schemaText) {
        def schema = new JsonSlurper().parseText(schemaText)
        def lines = schema['$defs'].values().collectMany { group ->
            ['', group.title] + group.properties.collect { key, rule ->
                def preset = rule.containsKey('default') ? " [default: ${rule.default}]" : ''
                "  --${key.padRight(16)} ${rule.description}${preset}"
            }
        }
        return (["${schema.description}"] + lines).join('\n')
    }

    // The name that was meant, where one is near.
    private static String hint(String key, Collection<String> names) {
        def plain = { it.toLowerCase().replace('_', '') }
        def near = names.findAll { plain(it) == plain(key) } ?: names.toList().closest(key)
        return near ? "; did you mean ${near.first()}?" : ''
    }

    private static boolean isEmpty(value) {
        return value == null || value == ''
    }

    private static String reasonAgainst(value, Map rule) {
        if (rule.type == 'boolean' && !(value instanceof Boolean)) {
            return "'${value}' is not true or false"
        }
        if (rule.type == 'integer' && !(value instanceof Integer)) {
            return "'${value}' is not a whole number"
        }
        if (rule.type == 'integer' && rule.minimum != null && value < rule.minimum) {
            return "${value} is less than ${rule.minimum}"
        }
        if (rule.type == 'string' && value instanceof Boolean) {
            return 'a value is missing'
        }
        if (rule.enum && !(value in rule.enum)) {
            return "'${value}' is none of ${rule.enum.join(', ')}"
        }
        if (rule.pattern && !(value.toString() ==~ rule.pattern)) {
            return "'${value}': ${rule.errorMessage}"
        }
        if (rule.exists && !Files.isRegularFile(Nextflow.file([glob: false], value) as java.nio.file.Path)) {
            return "'${value}': no such file"
        }
        return null
    }
}
