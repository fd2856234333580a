-- Orthanc: sends the MR series of each stable study to the modality "gliograde".
-- "StableAge" in Orthanc's configuration says how long nothing may have come before a study is stable.

-- A study is sent where its description holds one of these words, in any case; with none, every study with MR is.
local WORDS = {}

-- User-defined metadata of a study: how many MR instances of it were sent.
local SENT = 4107

local function is_wanted(description)
  for _, word in ipairs(WORDS) do
    if string.find(string.lower(description), string.lower(word), 1, true) then
      return true
    end
  end
  return #WORDS == 0
end

function OnStableStudy(studyId, tags, metadata)
  if not is_wanted(tags['StudyDescription'] or '') then
    return
  end
  local resources, count = {}, 0
  for _, series in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
    local main = series['MainDicomTags']
    -- our own results come back into the same study; they are not MR
    if main['Modality'] == 'MR' and main['Manufacturer'] ~= 'gliograde' then
      table.insert(resources, series['ID'])
      count = count + #series['Instances']
    end
  end
  -- a study is stable again when our results have come: nothing new for gliograde, so nothing is sent
  if count == 0 or metadata[tostring(SENT)] == tostring(count) then
    return
  end
  local body = { Resources = resources, Asynchronous = true, Permissive = false }
  RestApiPost('/modalities/gliograde/store', DumpJson(body, true))
  RestApiPut('/studies/' .. studyId .. '/metadata/' .. SENT, tostring(count))
end
